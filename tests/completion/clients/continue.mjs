// What the Continue extension calls its models with: three of its adapters over three of our dialects.
import { constructLlmApi } from "@continuedev/openai-adapters";

const { BASE, TOKEN, PREFIX, SUFFIX } = process.env;
const signal = new AbortController().signal;
const openai = constructLlmApi({ provider: "openai", apiBase: `${BASE}/v1/`, apiKey: TOKEN });
const request = { model: "any", prompt: PREFIX, suffix: SUFFIX, max_tokens: 12 };
const whole = await openai.completionNonStream({ ...request, stream: false }, signal);
let streamed = "";
for await (const part of openai.completionStream({ ...request, stream: true }, signal)) streamed += part.choices[0].text;

const mistral = constructLlmApi({ provider: "mistral", apiBase: `${BASE}/v1/`, apiKey: TOKEN });
let filled = "";
for await (const part of mistral.fimStream({ ...request, stream: true }, signal)) filled += part.choices[0].delta.content ?? "";

const llama = constructLlmApi({ provider: "llama.cpp", apiBase: `${BASE}/v1/`, apiKey: TOKEN });
const sentinels = `<|fim_prefix|>${PREFIX}<|fim_suffix|>${SUFFIX}<|fim_middle|>`;
const templated = await llama.completionNonStream({ model: "any", prompt: sentinels, max_tokens: 12, stream: false }, signal);
console.log(JSON.stringify({
  whole: whole.choices[0].text, streamed, filled, templated: templated.choices[0].text,
}));
