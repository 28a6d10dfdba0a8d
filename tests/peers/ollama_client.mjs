// Ollama's client for JavaScript, as its authors ship it: where it lies and the server's address
// are its arguments; what it was told goes to the standard output as one JSON document.
const [place, host, model] = process.argv.slice(2)
const { Ollama } = await import(place)
const client = new Ollama({ host })
const told = {}
const options = { temperature: 0, num_predict: 12 }
const messages = [{ role: 'user', content: 'Once upon a time' }]

told.whole = await client.chat({ model, messages, options })
told.pieces = []
for await (const piece of await client.chat({ model, messages, options, stream: true })) {
  told.pieces.push(piece)
}
told.generated = []
for await (const piece of await client.generate({ model, prompt: 'Once', options, stream: true })) {
  told.generated.push(piece)
}
const legs = { enum: [2, 4] }
const format = { type: 'object', properties: { legs }, required: ['legs'], additionalProperties: false }
told.formed = await client.chat({ model, messages, format, options: { num_predict: 200 } })
told.embedded = await client.embed({ model, input: ['a', 'b'] })
told.list = await client.list()
told.running = await client.ps()
told.shown = await client.show({ model })
told.version = await client.version()
try {
  await client.chat({ model: 'nobody', messages })
} catch (error) {
  told.error = { message: error.message, status: error.status_code }
}
const endless = await client.chat({ model, messages, stream: true, options: { num_predict: 100000 } })
setTimeout(() => client.abort(), 200)
try {
  for await (const _ of endless) { told.heard = (told.heard ?? 0) + 1 }
} catch (error) {
  told.aborted = error.name
}
told.unloaded = await client.generate({ model, prompt: '', keep_alive: 0 })
console.log(JSON.stringify(told))
