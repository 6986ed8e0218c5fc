// The tests' function: every replicated type and an action, on the unmodified SDK.
"use strict";
const { Action, Kalix, Metadata, Reply, replicatedentity: data } = require("@kalix-io/kalix-javascript-sdk");

const proto = "shop.proto";
const named = (name) => "anabranch.test." + name;
const entity = (service, type, value, commandHandlers, options) => {
  const made = new data.ReplicatedEntity(proto, named(service), type, options);
  made.defaultValue = value;
  made.commandHandlers = commandHandlers;
  return made;
};
const number = (n) => (typeof n === "object" ? n.toNumber() : Number(n));

const cart = (state) => ({
  items: Array.from(state.keys())
    .sort()
    .map((product) => ({ product, quantity: state.get(product) })),
});
const carts = entity("Cart", "cart", () => new data.ReplicatedCounterMap(), {
  Add(item, ctx) {
    if (number(item.quantity) <= 0) {
      return ctx.fail("a quantity is above 0, not " + item.quantity, 3);
    }
    ctx.state.increment(item.product, number(item.quantity));
    return cart(ctx.state);
  },
  Remove(item, ctx) {
    if (!ctx.state.has(item.product)) {
      return ctx.fail("there is no " + item.product, 5);
    }
    ctx.state.delete(item.product);
    return cart(ctx.state);
  },
  Get: (_, ctx) => cart(ctx.state),
  Delete(_, ctx) {
    ctx.delete();
    return {};
  },
});

const value = (ctx) => ({ value: ctx.state.value });
const counters = entity(
  "Counter",
  "counter",
  () => new data.ReplicatedCounter(),
  {
    Get: (_, ctx) => value(ctx),
    Watch: (_, ctx) => value(ctx),
    Change(change, ctx) {
      ctx.state.increment(number(change.by));
      return value(ctx);
    },
    ChangeAndFail(change, ctx) {
      ctx.state.increment(number(change.by));
      ctx.fail("no", 9);
    },
    ChangeAndRefuse(change, ctx) {
      ctx.state.increment(number(change.by));
      return Reply.failure("no", 7);
    },
    Crash() {
      throw new Error("boom");
    },
    Hang: () => new Promise(() => {}),
    Exit: () => process.exit(3),
    ChangeOther(change, ctx) {
      ctx.effect(counters.service.methods.Change, { id: change.other, by: change.by }, true);
      return value(ctx);
    },
    Forward(change, ctx) {
      ctx.state.increment(1);
      return Reply.forward(counters.service.methods.Change, { id: change.other, by: change.by });
    },
    Headers(_, ctx) {
      const heard = ctx.metadata.get("x-heard").concat(ctx.metadata.get("x-unheard"));
      const said = new Metadata();
      said.set("x-said", "well");
      return Reply.message({ text: heard.concat(ctx.metadata.get("traceparent")).join(",") }, said);
    },
    Delete(_, ctx) {
      ctx.delete();
      return {};
    },
  },
  { entityPassivationStrategy: { timeout: 50 }, forwardHeaders: ["x-heard", "traceparent"] },
);

const words = (state) => ({ words: Array.from(state.elements()).sort() });
const wordSets = entity("WordSet", "words", () => new data.ReplicatedSet(), {
  Get: (_, ctx) => words(ctx.state),
  Add(word, ctx) {
    ctx.state.add(word.word);
    return words(ctx.state);
  },
  Remove(word, ctx) {
    ctx.state.delete(word.word);
    return words(ctx.state);
  },
  Clear(_, ctx) {
    ctx.state.clear();
    return words(ctx.state);
  },
});

const notes = entity("Notes", "note", () => new data.ReplicatedRegister(""), {
  Get: (_, ctx) => ({ text: ctx.state.value }),
  Set(write, ctx) {
    ctx.state.value = write.text;
    return { text: ctx.state.value };
  },
});

const registers = (state) => ({
  entries: Array.from(state.keys())
    .sort()
    .map((key) => ({ key, values: [state.get(key)] })),
});
const settings = entity("Settings", "settings", () => new data.ReplicatedRegisterMap(), {
  Get: (_, ctx) => registers(ctx.state),
  Put(entry, ctx) {
    ctx.state.set(entry.key, entry.value);
    return registers(ctx.state);
  },
  Remove(entry, ctx) {
    ctx.state.delete(entry.key);
    return registers(ctx.state);
  },
});

const sets = (state) => ({
  entries: Array.from(state.keys())
    .sort()
    .map((key) => ({ key, values: Array.from(state.get(key)).sort() })),
});
const tags = entity("Tags", "tags", () => new data.ReplicatedMultiMap(), {
  Get: (_, ctx) => sets(ctx.state),
  Put(entry, ctx) {
    ctx.state.put(entry.key, entry.value);
    return sets(ctx.state);
  },
  Remove(entry, ctx) {
    ctx.state.delete(entry.key, entry.value);
    return sets(ctx.state);
  },
  Clear(_, ctx) {
    ctx.state.clear();
    return sets(ctx.state);
  },
});

const shown = (part) => {
  if (part instanceof data.ReplicatedCounter) return [String(part.value)];
  if (part instanceof data.ReplicatedRegister) return [part.value];
  if (part instanceof data.Vote) return [`${part.votesFor} of ${part.totalVoters}`];
  return Array.from(part.elements()).sort();
};
const page = (state) => ({
  entries: Array.from(state.keys())
    .sort()
    .map((key) => ({ key, values: shown(state.get(key)) })),
});
const part = (ctx, key, made) => {
  if (!ctx.state.has(key)) ctx.state.set(key, made());
  return ctx.state.get(key);
};
const pages = entity("Page", "page", () => new data.ReplicatedMap(), {
  Get: (_, ctx) => page(ctx.state),
  Visit(_, ctx) {
    part(ctx, "visits", () => new data.ReplicatedCounter()).increment(1);
    return page(ctx.state);
  },
  Say(word, ctx) {
    part(ctx, "words", () => new data.ReplicatedSet()).add(word.word);
    return page(ctx.state);
  },
  Title(write, ctx) {
    part(ctx, "title", () => new data.ReplicatedRegister("")).value = write.text;
    return page(ctx.state);
  },
  Vote(ballot, ctx) {
    part(ctx, "poll", () => new data.Vote()).vote = ballot.yes;
    return page(ctx.state);
  },
  Retype(word, ctx) {
    ctx.state.clear();
    part(ctx, "visits", () => new data.ReplicatedSet()).add(word.word);
    return page(ctx.state);
  },
  Remove(entry, ctx) {
    ctx.state.delete(entry.key);
    return page(ctx.state);
  },
});

const tally = (state) => ({ mine: state.vote, for: state.votesFor, of: state.totalVoters });
const polls = entity("Poll", "poll", () => new data.Vote(), {
  Get: (_, ctx) => tally(ctx.state),
  Vote(ballot, ctx) {
    ctx.state.vote = ballot.yes;
    return tally(ctx.state);
  },
});

const desk = new Action(proto, named("Desk"), { forwardHeaders: ["x-b-bin", "x-much"] });
const change = (order) => [counters.service.methods.Change, { id: order.counter, by: order.by }];
desk.commandHandlers = {
  Double: (n) => ({ value: number(n.value) * 2 }),
  Order: (order) => Reply.forward(...change(order)),
  Effect: (order) => Reply.message({ value: order.by }).addEffect(...change(order), true),
  EffectAndFail: (order) => Reply.failure("too late", 9).addEffect(...change(order), true),
  Fail: () => Reply.failure("the desk is closed", 9),
  Throw: () => {
    throw new Error("boom");
  },
  Exit: () => process.exit(3),
  Late: (n) => new Promise((done) => setTimeout(() => done(n), number(n.value))),
  CountAndExit(_, ctx) {
    ctx.write({ value: 1 });
    setTimeout(() => process.exit(3), 200);
  },
  async ChangeAndRamble(order) {
    const client = desk.clients.anabranch.test.Counter.createClient();
    await client.Change({ id: order.counter, by: order.by });
    return { text: "x".repeat(900000) };
  },
  Anything: (n) => ({ type: "thing", value: number(n.value) }),
  Count(n, ctx) {
    for (let i = 1; i <= number(n.value); i++) ctx.write({ value: i });
    ctx.end();
  },
  Falter(n, ctx) {
    const said = new Metadata();
    said.set("x-first", "yes");
    said.set("_kalix-http-code", "203");
    for (let i = 1; i <= number(n.value); i++) ctx.write({ value: i }, said);
    ctx.fail("it falters", 7);
    ctx.end();
  },
  Long(n) {
    const [long, said] = ["é".repeat(Math.abs(number(n.value))), new Metadata()];
    if (number(n.value) < 0) return Reply.failure(long, 5);
    said.set("x-long", "x".repeat(number(n.value)));
    said.set("x-short", "well");
    return Reply.message({ value: 1 }, said);
  },
  Measure: (text) => ({ value: text.text.length }),
  Fill(n) {
    const said = new Metadata();
    said.set("x-long", "x".repeat(6 << 10));
    return Reply.message({ text: "x".repeat(number(n.value)) }, said);
  },
  Bytes(_, ctx) {
    const said = new Metadata();
    said.set("x-raw-bin", Buffer.from([0, 255]));
    const hex = (value) => (Buffer.isBuffer(value) ? value.toString("hex") : typeof value);
    return Reply.message({ text: ctx.metadata.get("x-b-bin").map(hex).join(" ") }, said);
  },
  EchoText(ctx) {
    ctx.on("data", (text) => ctx.write(text));
    ctx.on("end", () => ctx.end());
  },
  Keep: (old) => ({ text: `${old.id} ${typeof (old.part || {}).name}` }),
  Sum(ctx) {
    let sum = 0;
    ctx.on("data", (n) => (sum += number(n.value)));
    return new Promise((done) => ctx.on("end", () => done({ value: sum })));
  },
  SumLate(ctx) {
    let sum = 0;
    ctx.on("data", (n) => (sum += number(n.value)));
    return new Promise((done) => ctx.on("end", () => setTimeout(() => done({ value: sum }), sum)));
  },
  Echo(ctx) {
    ctx.on("data", (n) => ctx.write(n));
    ctx.on("end", () => ctx.end());
  },
};

const all = [carts, counters, wordSets, notes, settings, tags, pages, polls, desk];
const kalix = new Kalix({ serviceName: "anabranch-test-shop" });
all.forEach((component) => kalix.addComponent(component));
kalix.start();
