// OpenAI's client for Node against running servers, whose addresses are in DEMO_URL, TOOLS_URL and NARROW_URL.

import assert from "node:assert/strict";
import { test } from "node:test";

import OpenAI from "openai";
import { zodFunction, zodResponseFormat, zodTextFormat } from "openai/helpers/zod";
import { z } from "zod";

const client = new OpenAI({ baseURL: process.env.DEMO_URL, apiKey: "-", maxRetries: 0 });
const caller = new OpenAI({ baseURL: process.env.TOOLS_URL, apiKey: "-", maxRetries: 0 });
const narrow = new OpenAI({ baseURL: process.env.NARROW_URL, apiKey: "right", maxRetries: 0 });
const messages = [{ role: "user", content: "What is 3 plus 4?" }];
const Verdict = z.object({ answer: z.enum(["yes", "no"]) });
const Weather = z.object({ city: z.enum(["Rome", "Oslo"]) });

test("a chat, whole and streamed, says the same", async () => {
  const asked = { model: "demo", messages, seed: 7, max_tokens: 40 };
  const whole = await client.chat.completions.create(asked);
  const said = whole.choices[0].message.content;
  assert.ok(said.length > 0);
  let text = "";
  let last;
  const chunks = await client.chat.completions.create({
    ...asked, stream: true, stream_options: { include_usage: true },
  });
  for await (const chunk of chunks) {
    text += chunk.choices[0]?.delta.content ?? "";
    last = chunk;
  }
  assert.equal(text, said);
  assert.deepEqual(last.choices, []);
  assert.equal(last.usage.completion_tokens, whole.usage.completion_tokens);
});

test("the stream helper puts the message together", async () => {
  const stream = client.chat.completions.stream({ model: "demo", messages, seed: 3, max_tokens: 40 });
  let text = "";
  stream.on("content", (delta) => { text += delta; });
  const final = await stream.finalChatCompletion();
  assert.equal(final.choices[0].message.content, text);
});

test("completions of several prompts", async () => {
  const reply = await client.completions.create({
    model: "demo", prompt: ["Once", "The"], n: 2, max_tokens: 4, logprobs: 2, seed: 1,
  });
  assert.deepEqual(reply.choices.map((choice) => choice.index), [0, 1, 2, 3]);
  assert.ok(reply.choices.every((choice) => choice.logprobs.tokens.length === 4));
});

test("embeddings are decoded, whatever they come as", async () => {
  const asked = { model: "demo", input: ["Once upon a time", "The sea"], dimensions: 16 };
  const decoded = await client.embeddings.create(asked);
  const numbers = await client.embeddings.create({ ...asked, encoding_format: "float" });
  assert.deepEqual(decoded.data.map((one) => one.embedding.length), [16, 16]);
  const far = (one, other) => Math.max(...one.map((value, i) => Math.abs(value - other[i])));
  assert.ok(decoded.data.every((one, i) => far(one.embedding, numbers.data[i].embedding) < 1e-5));
});

test("parse gives what the schema says", async () => {
  const reply = await client.chat.completions.parse({
    model: "demo", messages, temperature: 0, response_format: zodResponseFormat(Verdict, "verdict"),
  });
  assert.ok(["yes", "no"].includes(reply.choices[0].message.parsed.answer));
});

test("tools are called by their schemas", async () => {
  const tools = [zodFunction({ name: "weather", description: "Tells the weather.", parameters: Weather })];
  const asked = { model: "tools", messages, tools, tool_choice: "required", temperature: 0 };
  const reply = await caller.chat.completions.parse(asked);
  const calls = reply.choices[0].message.tool_calls;
  assert.equal(reply.choices[0].finish_reason, "tool_calls");
  assert.ok(calls.length > 0);
  for (const call of calls) {
    assert.equal(call.function.name, "weather");
    assert.ok(["Rome", "Oslo"].includes(call.function.parsed_arguments.city));
  }
  const final = await caller.chat.completions.stream(asked).finalChatCompletion();
  assert.deepEqual(
    final.choices[0].message.tool_calls.map((call) => JSON.parse(call.function.arguments)),
    calls.map((call) => JSON.parse(call.function.arguments)),
  );
});

test("runTools goes on after the calls", async () => {
  let asked = null;
  const runner = caller.chat.completions.runTools({
    model: "tools", messages, temperature: 0, max_tokens: 200,
    tool_choice: { type: "function", function: { name: "weather" } },
    tools: [{
      type: "function",
      function: {
        name: "weather",
        parse: JSON.parse,
        function: ({ city }) => { asked = city; return "rain"; },
        parameters: {
          type: "object", properties: { city: { enum: ["Rome", "Oslo"] } }, required: ["city"], additionalProperties: false,
        },
      },
    }],
  });
  await runner.done();
  assert.ok(["Rome", "Oslo"].includes(asked));
});

test("responses, whole, streamed and parsed", async () => {
  const asked = { model: "demo", input: "What is 3 plus 4?", temperature: 0, max_output_tokens: 40 };
  const whole = await client.responses.create(asked);
  assert.equal(whole.status, "completed");
  const final = await client.responses.stream(asked).finalResponse();
  assert.equal(final.output_text, whole.output_text);
  const parsed = await client.responses.parse({
    model: "demo", input: "Is it so?", temperature: 0, text: { format: zodTextFormat(Verdict, "verdict") },
  });
  assert.ok(["yes", "no"].includes(parsed.output_parsed.answer));
});

test("errors have their classes, parameters and request ids", async () => {
  await assert.rejects(
    client.chat.completions.create({ model: "demo", messages, temperature: 9 }),
    (error) => error instanceof OpenAI.BadRequestError && error.param === "temperature"
      && error.code === "invalid_value" && error.requestID.startsWith("req-"),
  );
  await assert.rejects(client.completions.create({ model: "other", prompt: "x" }), OpenAI.NotFoundError);
  const stranger = new OpenAI({ baseURL: process.env.NARROW_URL, apiKey: "wrong", maxRetries: 0 });
  await assert.rejects(stranger.models.list(), OpenAI.AuthenticationError);
});

test("a stream that is left frees its place", async () => {
  for (let i = 0; i < 5; i++) {
    const stream = await narrow.completions.create({
      model: "demo", prompt: "Once", max_tokens: 900, stream: true, ignore_eos: true,
    });
    for await (const chunk of stream) {
      assert.equal(chunk.choices[0].finish_reason, null);
      stream.controller.abort();
      break;
    }
  }
  const reply = await narrow.completions.create({ model: "demo", prompt: "x", max_tokens: 3 }, { maxRetries: 60 });
  assert.equal(reply.usage.completion_tokens, 3);
});

test("models", async () => {
  const names = [];
  for await (const model of client.models.list()) names.push(model.id);
  assert.deepEqual(names, ["demo"]);
});
