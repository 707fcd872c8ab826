// Usage: node stripe.cjs KEY: charges a card with the Stripe SDK, once for each
// line of standard input or, when there is none, once. Prints one line a call.
const Stripe = require("stripe");
const readline = require("node:readline");

const stripe = new Stripe(process.argv[2], { maxNetworkRetries: 0, telemetry: false });

async function charge() {
  try {
    const charge = await stripe.charges.create({ amount: 4200, currency: "eur", source: "tok_visa" });
    console.log(`200 ${charge.object} of ${charge.amount} ${charge.currency}`);
  } catch (error) {
    console.log(`${error.statusCode ?? "-"} ${error.type}: ${error.message.slice(0, 60)}…`);
  }
}

(async () => {
  await charge();
  for await (const _ of readline.createInterface({ input: process.stdin })) {
    await charge();
  }
})();
