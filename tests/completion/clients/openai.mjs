// The official OpenAI client for Node: whole, streamed, several, and aborted.
import OpenAI from "openai";

const { BASE, TOKEN, PREFIX, SUFFIX } = process.env;
const client = new OpenAI({ baseURL: `${BASE}/v1`, apiKey: TOKEN, maxRetries: 0 });
const request = { model: "any", prompt: PREFIX, suffix: SUFFIX, max_tokens: 12 };

const models = [];
for await (const model of client.models.list()) models.push(model.id);
const whole = await client.completions.create({ ...request, logprobs: 2 });
let streamed = "";
for await (const part of await client.completions.create({ ...request, stream: true })) streamed += part.choices[0].text;
const several = await client.completions.create({ ...request, n: 3 });
const stopping = new AbortController();
let aborted = false;
try {
  const stream = await client.completions.create(
    { ...request, prompt: "x = [\n", max_tokens: 200, stream: true, multiline: true },
    { signal: stopping.signal },
  );
  // Who stops reads no further: in Node 20 a read behind an abort never ends where the answer was complete by then
  // (nodejs/undici#4089).
  for await (const _ of stream) {
    stopping.abort();
    break;
  }
  aborted = stopping.signal.aborted;
} catch (error) {
  aborted = error instanceof OpenAI.APIUserAbortError;
}
let refused;
try {
  await new OpenAI({ baseURL: `${BASE}/v1`, apiKey: "wrong", maxRetries: 0 }).completions.create(request);
} catch (error) {
  refused = error.status;
}
console.log(JSON.stringify({
  models, whole: whole.choices[0].text, streamed, several: several.choices.map((choice) => choice.text),
  logprobs: whole.choices[0].logprobs.token_logprobs.length, written: whole.choices[0].logprobs.tokens.join(""), tokens: whole.usage.completion_tokens, aborted, refused,
}));
