// Usage: node sdk.mjs notion|openai|openai-stream|anthropic-stream KEY: one call with
// the vendor's SDK. A streamed answer is printed a line an event, as each arrives.
const [call, key] = process.argv.slice(2);

const calls = {
  notion: async () => {
    const { Client } = await import("@notionhq/client");
    const me = await new Client({ auth: key, retry: false }).users.me({});
    console.log(me.object, me.name);
  },
  openai: async () => {
    const { default: OpenAI } = await import("openai");
    const models = await new OpenAI({ apiKey: key, maxRetries: 0 }).models.list();
    console.log(models.data[0].object, models.data[0].id);
  },
  "openai-stream": async () => {
    const { default: OpenAI } = await import("openai");
    const stream = await new OpenAI({ apiKey: key, maxRetries: 0 }).chat.completions.create({
      model: "e2e", stream: true, messages: [{ role: "user", content: "Say three words." }],
    });
    for await (const event of stream) {
      console.log(event.choices[0].delta.content);
    }
  },
  "anthropic-stream": async () => {
    const { default: Anthropic } = await import("@anthropic-ai/sdk");
    const stream = await new Anthropic({ apiKey: key, maxRetries: 0 }).messages.create({
      model: "e2e", max_tokens: 9, stream: true, messages: [{ role: "user", content: "Say three words." }],
    });
    for await (const event of stream) {
      if (event.type === "content_block_delta") {
        console.log(event.delta.text);
      }
    }
  },
};

await calls[call]();
