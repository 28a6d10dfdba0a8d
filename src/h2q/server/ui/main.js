// The dashboard: asks for the state again and again, and shows it.

import { bytes, element, median, plot, seconds } from "./draw.js";
import { playground } from "./play.js";

const EVERY = 1000;
const at = (id) => document.getElementById(id);

export function say(words) {
  at("said").textContent = words;
}

// A request with the key, if one was given. Throws what the server says.
export async function call(path, body, signal) {
  const key = sessionStorage.getItem("h2q-key");
  const headers = { "Content-Type": "application/json", ...(key ? { Authorization: `Bearer ${key}` } : {}) };
  const options = body === undefined ? { headers } : { method: "POST", headers, body: JSON.stringify(body), signal };
  const reply = await fetch(path, options);
  at("lock").hidden = reply.status !== 401;
  if (!reply.ok) throw new Error((await reply.json()).error ?? `status ${reply.status}`);
  return reply;
}

function figures(state) {
  const last = state.history.at(-1);
  const shown = {
    "tokens/s": last ? last.tokens_per_second.toFixed(1) : "–",
    running: state.running,
    waiting: state.waiting,
    refused: state.refused,
    resident: bytes(state.memory.resident),
    promised: bytes(state.memory.promised),
    "free memory": bytes(state.memory.free),
  };
  at("figures").replaceChildren(
    ...Object.entries(shown).map(([name, value]) =>
      element("div", {}, element("dt", { textContent: name }), element("dd", { textContent: value })),
    ),
  );
}

async function wish(model, word, planes) {
  try {
    await call("/api/h2q/control", { model, wish: word, ...(planes ? { planes } : {}) });
    say(`${model}: ${word}`);
  } catch (error) {
    say(error.message);
  }
  await look();
}

function card(model) {
  const made = element("article", {});
  made.dataset.name = model.name;
  const bar = element("div", { className: "planes" });
  const buttons = element("div", { className: "row" });
  for (const word of ["load", "unload", "pin", "refine", "drop"]) {
    const button = element("button", { type: "button", textContent: word });
    button.setAttribute("aria-label", `${word} ${model.name}`);
    button.addEventListener("click", () => {
      const pinned = made.dataset.pinned === "true";
      wish(model.name, word, word === "pin" && !pinned ? Number(made.dataset.planes) || 1 : undefined);
    });
    buttons.append(button);
  }
  made.append(element("h3", { textContent: model.name }), element("p"), bar, element("p"), element("p"), buttons);
  return made;
}

function show(made, model) {
  const [about, memory, times] = made.querySelectorAll("p");
  const bar = made.querySelector(".planes");
  const pinned = model.state?.pinned ?? false;
  Object.assign(made.dataset, { planes: model.planes, pinned });
  about.textContent = `${model.family}, ${(model.parameters / 1e6).toFixed(1)} M, ${model.bits}, ${bytes(model.size)}`;
  const all = model.all_planes || 1;
  if (bar.children.length !== all) bar.replaceChildren(...Array.from({ length: all }, () => element("i")));
  [...bar.children].forEach((one, number) => one.classList.toggle("on", number < model.planes));
  bar.setAttribute("role", "img");
  bar.setAttribute("aria-label", `${model.planes} of ${model.all_planes} planes`);
  memory.textContent = model.in_memory
    ? `${model.planes} of ${model.all_planes} planes${pinned ? ", pinned" : ""}; ${bytes(model.resident)} of ${bytes(model.promised)}; pressure ${model.state?.pressure ?? "?"}`
    : "not in memory";
  const first = median(model.first_token_seconds);
  times.textContent = `${model.tokens} tokens; first token ${first === null ? "–" : `after ${seconds(first)} (median)`}; ${model.running} running, ${model.waiting} waiting`;
  for (const button of made.querySelectorAll("button")) {
    if (button.textContent === "load") button.disabled = model.in_memory;
    else button.disabled = !model.in_memory;
    if (/^(pin|unpin)$/.test(button.textContent)) button.title = pinned ? "let go" : "keep these planes";
  }
}

function models(state) {
  const known = new Map([...at("models").children].map((one) => [one.dataset.name, one]));
  for (const model of state.models) {
    const made = known.get(model.name) ?? card(model);
    if (!known.delete(model.name)) at("models").append(made);
    show(made, model);
  }
  for (const gone of known.values()) gone.remove();
  const choice = at("model");
  const names = state.models.map((model) => model.name);
  if ([...choice.options].map((one) => one.value).join() !== names.join())
    choice.replaceChildren(...names.map((name) => element("option", { value: name, textContent: name })));
}

async function look() {
  try {
    const state = await (await call("/api/h2q/state")).json();
    figures(state);
    models(state);
    plot(at("speed"), state.history, ["tokens_per_second"], (value) => `${value.toFixed(0)}/s`);
    plot(at("memory"), state.history, ["resident", "promised"], bytes);
    plot(at("queue"), state.history, ["running", "waiting"], (value) => value.toFixed(0));
    if (at("said").textContent === "…") say(state.draining ? "the last answers end" : "ready");
  } catch (error) {
    say(error.message);
  }
}

at("lock").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem("h2q-key", at("key").value);
  look();
});
playground();
await look();
setInterval(look, EVERY);
