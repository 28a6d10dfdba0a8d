// The playground: a conversation whose tokens show how sure the model was of them.

import { element } from "./draw.js";
import { call, say } from "./main.js";

const turns = [];
let going = null;

// Entropy in nats of the alternatives that are told; what is left over counts as one more.
function entropy(alternatives) {
  let [sum, rest] = [0, 1];
  for (const { logprob } of alternatives) {
    const share = Math.exp(logprob);
    sum -= share * logprob;
    rest -= share;
  }
  return rest > 1e-6 ? sum - rest * Math.log(rest) : sum;
}

function level(value) {
  return [0.3, 0.9, 1.8, 2.8].filter((border) => value > border).length;
}

// Once for each picture: to look where the end is costs as much as the whole text is long.
let showing = false;
function showEnd(talk) {
  if (showing) return;
  showing = true;
  requestAnimationFrame(() => {
    showing = false;
    talk.scrollTop = talk.scrollHeight;
  });
}

// What was in force for how many tokens: `2 planes for 8 tokens, 4 for 30`.
function summary(spells) {
  return spells.map(([planes, count], at) => `${planes}${at ? "" : planes === 1 ? " plane" : " planes"} for ${count}${at ? "" : count === 1 ? " token" : " tokens"}`).join(", ");
}

async function answer(model, place, used) {
  const body = { model, messages: turns, logprobs: true, top_logprobs: 20, tell_planes: true };
  const spells = [];
  const reply = await call("/api/chat", body, going.signal);
  const reader = reply.body.pipeThrough(new TextDecoderStream()).getReader();
  let [open, text] = ["", ""];
  for (;;) {
    const { value, done } = await reader.read();
    if (done) break;
    const lines = (open + value).split("\n");
    open = lines.pop();
    const said = document.createDocumentFragment();
    for (const line of lines) {
      const piece = JSON.parse(line);
      if (piece.error) throw new Error(piece.error);
      const told = piece.message?.content ?? "";
      text += told;
      const [first] = piece.logprobs ?? [];
      if (piece.planes && first) {
        if (spells.at(-1)?.[0] !== piece.planes) {
          spells.push([piece.planes, 0]);
          const mark = element("i", { className: "mark" }); // its number is no part of the text
          mark.dataset.planes = piece.planes;
          said.append(mark);
        }
        spells.at(-1)[1] += 1;
      }
      const unsure = first?.top_logprobs ? entropy(first.top_logprobs) : 0;
      const title = first ? `entropy ${unsure.toFixed(2)} nats, chosen at ${Math.exp(first.logprob).toFixed(3)}, ${piece.planes} planes` : "";
      said.append(element("span", { textContent: told, className: `e${level(unsure)}`, title }));
    }
    place.append(said);
    used.textContent = summary(spells);
    showEnd(place.parentElement);
  }
  return text;
}

export function playground() {
  const [form, text, stop, send, talk] = ["ask", "text", "stop", "send", "talk"].map((id) => document.getElementById(id));
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (!text.value.trim() || going) return;
    turns.push({ role: "user", content: text.value });
    talk.append(element("p", { className: "mine", textContent: text.value }));
    text.value = "";
    const place = element("p");
    const used = element("p", { className: "planes-used" });
    talk.append(place, used);
    going = new AbortController();
    [stop.disabled, send.disabled] = [false, true];
    try {
      turns.push({ role: "assistant", content: await answer(document.getElementById("model").value, place, used) });
    } catch (error) {
      if (error.name !== "AbortError") say(error.message);
      turns.push({ role: "assistant", content: place.textContent });
    }
    going = null;
    [stop.disabled, send.disabled] = [true, false];
    text.focus();
  });
  text.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
  });
  stop.addEventListener("click", () => going?.abort());
  document.getElementById("clear").addEventListener("click", () => {
    turns.length = 0;
    talk.replaceChildren();
  });
}
