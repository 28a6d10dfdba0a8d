// Renders chat templates with Go's own text/template, the way Ollama feeds it: the reference that
// expected.json comes from.
//
//	go run render.go < cases.json > expected.json
package main

import (
	"encoding/json"
	"os"
	"strings"
	"text/template"
	"text/template/parse"
)

type function struct {
	Name        string `json:"name"`
	Description string `json:"description,omitempty"`
	Parameters  schema `json:"parameters"`
}

type property struct {
	Type        string   `json:"type"`
	Description string   `json:"description"`
	Enum        []string `json:"enum,omitempty"`
}

type schema struct {
	Type       string              `json:"type"`
	Required   []string            `json:"required"`
	Properties map[string]property `json:"properties"`
}

type tool struct {
	Type     string   `json:"type"`
	Function function `json:"function"`
}

type arguments map[string]any

type call struct {
	ID       string `json:"id,omitempty"`
	Function struct {
		Name      string    `json:"name"`
		Arguments arguments `json:"arguments"`
	} `json:"function"`
}

type message struct {
	Role      string `json:"role"`
	Content   string `json:"content"`
	Thinking  string `json:"thinking"`
	ToolCalls []call `json:"tool_calls"`
	ToolName  string `json:"name"`
}

type tools []tool

func written(v any) string         { b, _ := json.Marshal(v); return string(b) }
func (v tools) String() string     { return written(v) }
func (v tool) String() string      { return written(v) }
func (v function) String() string  { return written(v) }
func (v schema) String() string    { return written(v) }
func (v arguments) String() string { return written(map[string]any(v)) }

type conversation struct {
	Messages []message `json:"messages"`
	Tools    tools     `json:"tools"`
	Think    *bool     `json:"think"`
}

type set struct {
	Templates     map[string]string       `json:"templates"`
	Conversations map[string]conversation `json:"conversations"`
}

// joined: neighbours of one role as one turn, and the texts of all systems.
func joined(turns []message) ([]message, string) {
	var out []message
	var systems []string
	for _, turn := range turns {
		if turn.Role == "system" {
			systems = append(systems, turn.Content)
		}
		if n := len(out); n > 0 && out[n-1].Role == turn.Role && turn.Role != "tool" {
			out[n-1].Content += "\n\n" + turn.Content
		} else {
			out = append(out, turn)
		}
	}
	return out, strings.Join(systems, "\n\n")
}

// fields: whether a field of that name stands anywhere in a node.
func fields(n parse.Node, name string) bool {
	switch t := n.(type) {
	case *parse.ListNode:
		if t == nil {
			return false
		}
		for _, c := range t.Nodes {
			if fields(c, name) {
				return true
			}
		}
	case *parse.ActionNode:
		return fields(t.Pipe, name)
	case *parse.TemplateNode:
		return t.Pipe != nil && fields(t.Pipe, name)
	case *parse.IfNode:
		return fields(t.Pipe, name) || fields(t.List, name) || fields(t.ElseList, name)
	case *parse.RangeNode:
		return fields(t.Pipe, name) || fields(t.List, name) || fields(t.ElseList, name)
	case *parse.WithNode:
		return fields(t.Pipe, name) || fields(t.List, name) || fields(t.ElseList, name)
	case *parse.PipeNode:
		for _, c := range t.Cmds {
			for _, a := range c.Args {
				if fields(a, name) {
					return true
				}
			}
		}
	case *parse.FieldNode:
		for _, ident := range t.Ident {
			if ident == name {
				return true
			}
		}
	case *parse.VariableNode:
		for _, ident := range t.Ident {
			if ident == name {
				return true
			}
		}
	}
	return false
}

// cut: the list without what follows the first action that shows .Response.
func cut(list *parse.ListNode, done *bool) {
	if list == nil {
		return
	}
	var kept []parse.Node
	for _, n := range list.Nodes {
		if *done {
			break
		}
		switch t := n.(type) {
		case *parse.ActionNode:
			*done = fields(t.Pipe, "Response")
		case *parse.IfNode:
			cut(t.List, done)
			cut(t.ElseList, done)
		case *parse.RangeNode:
			cut(t.List, done)
			cut(t.ElseList, done)
		case *parse.WithNode:
			cut(t.List, done)
			cut(t.ElseList, done)
		}
		kept = append(kept, n)
	}
	list.Nodes = kept
}

func prepared(text string) *template.Template {
	made := template.New("").Option("missingkey=zero").Funcs(template.FuncMap{"json": written})
	return template.Must(made.Parse(text))
}

func render(text string, c conversation) (out string) {
	defer func() {
		if why := recover(); why != nil {
			out = "error"
		}
	}()
	turns, system := joined(c.Messages)
	think := c.Think != nil && *c.Think
	made := prepared(text)
	messages := false
	for _, t := range made.Templates() {
		messages = messages || fields(t.Tree.Root, "Messages")
	}
	var b strings.Builder
	run := func(t *template.Template, data map[string]any) {
		data["Think"], data["IsThinkSet"] = think, c.Think != nil
		if err := t.Execute(&b, data); err != nil {
			panic(err)
		}
	}
	if messages {
		run(made, map[string]any{
			"System": system, "Messages": turns, "Tools": c.Tools, "Response": "",
		})
		return b.String()
	}
	if !fields(made.Tree.Root, "Response") {
		made = prepared(text + "{{ .Response }}")
	}
	now := map[string]any{"System": "", "Prompt": "", "Response": ""}
	push := func() {
		run(made, now)
		now = map[string]any{"System": "", "Prompt": "", "Response": ""}
	}
	for _, m := range turns {
		switch m.Role {
		case "system":
			if now["Prompt"] != "" || now["Response"] != "" {
				push()
			}
			now["System"] = m.Content
		case "user":
			if now["Response"] != "" {
				push()
			}
			now["Prompt"] = m.Content
		case "assistant":
			now["Response"] = m.Content
		}
	}
	var done bool
	cut(made.Tree.Root, &done)
	run(made, now)
	return b.String()
}

func main() {
	var in set
	if err := json.NewDecoder(os.Stdin).Decode(&in); err != nil {
		panic(err)
	}
	out := map[string]map[string]string{}
	for name, text := range in.Templates {
		out[name] = map[string]string{}
		for talk, c := range in.Conversations {
			out[name][talk] = render(text, c)
		}
	}
	encoder := json.NewEncoder(os.Stdout)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", " ")
	if err := encoder.Encode(out); err != nil {
		panic(err)
	}
}
