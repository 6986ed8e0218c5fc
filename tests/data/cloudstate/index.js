// The tests' function: every type that Cloudstate's first SDK has, and a function without state, on the unmodified SDK.
"use strict";
const { CloudState, Stateless, crdt } = require("cloudstate");

const proto = "meeting.proto";
// Where descriptor.proto is, which the SDK's install script would have fetched.
const includeDirs = [".", "node_modules/protobufjs"];
const named = (name) => "anabranch.test." + name;
const entity = (service, value, commandHandlers) => {
  const made = new crdt.Crdt(proto, named(service), { persistenceId: service.toLowerCase(), includeDirs });
  made.defaultValue = value;
  made.commandHandlers = commandHandlers;
  return made;
};
const number = (n) => (typeof n === "object" ? n.toNumber() : Number(n));
const rpc = (entity, service, method) => entity.grpc.anabranch.test[service].service[method];
const count = (ctx) => ({ value: ctx.state.value });
const words = (state) => ({ words: Array.from(state).sort() });

const visits = entity("Visits", () => new crdt.GCounter(), {
  Come(amount, ctx) {
    ctx.state.increment(number(amount.by));
    return count(ctx);
  },
  Get: (_, ctx) => count(ctx),
});

const scores = entity("Score", () => new crdt.PNCounter(), {
  Change(amount, ctx) {
    ctx.state.increment(number(amount.by));
    return count(ctx);
  },
  Get: (_, ctx) => count(ctx),
  ChangeAndFail(amount, ctx) {
    ctx.state.increment(number(amount.by));
    ctx.fail("no");
  },
  Refuse: (_, ctx) => ctx.fail("not today"),
  Crash() {
    throw new Error("boom");
  },
  Exit: () => process.exit(3),
  Delete(_, ctx) {
    ctx.delete();
    return {};
  },
  ChangeBoth(amount, ctx) {
    ctx.state.increment(number(amount.by));
    ctx.effect(rpc(visits, "Visits", "Come"), { id: amount.id, by: amount.by }, true);
    return count(ctx);
  },
  AskVisits(id, ctx) {
    ctx.thenForward(rpc(visits, "Visits", "Get"), { id: id.id });
  },
  // Nobody handles that its caller leaves.
  Watch(_, ctx) {
    ctx.onStateChange = (state) => ({ value: state.value });
    return count(ctx);
  },
  WatchUntil(amount, ctx) {
    ctx.onStateChange = (state, change) => {
      if (state.value < 0) {
        throw new Error("it is below 0");
      }
      if (state.value >= number(amount.by)) {
        change.end();
      }
      return { value: state.value };
    };
  },
});

const guests = entity("Guests", () => new crdt.GSet(), {
  Add(word, ctx) {
    ctx.state.add(word.word);
    return words(ctx.state);
  },
  Get: (_, ctx) => words(ctx.state),
});

const topics = entity("Topics", () => new crdt.ORSet(), {
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
  Get: (_, ctx) => words(ctx.state),
});

const titles = entity("Title", () => new crdt.LWWRegister("none"), {
  Set(word, ctx) {
    ctx.state.value = word.word;
    return { text: ctx.state.value };
  },
  Get: (_, ctx) => ({ text: ctx.state.value }),
});

const doors = entity("Door", () => new crdt.Flag(), {
  Open(_, ctx) {
    ctx.state.enable();
    return { on: ctx.state.value };
  },
  Get: (_, ctx) => ({ on: ctx.state.value }),
});

const minutes = entity("Minutes", () => new crdt.ORMap(), {
  Say({ word }, ctx) {
    const [topic, said] = word.split(":");
    if (!ctx.state.has(topic)) {
      ctx.state.set(topic, new crdt.ORSet());
    }
    ctx.state.get(topic).add(said);
    if (!ctx.state.has("all")) {
      ctx.state.set("all", new crdt.ORMap());
      ctx.state.get("all").set("said", new crdt.PNCounter());
    }
    ctx.state.get("all").get("said").increment(1);
    return {};
  },
  Forget({ word }, ctx) {
    ctx.state.delete(word);
    return {};
  },
  Head({ word }, ctx) {
    ctx.state.set("head", new crdt.LWWRegister({ word }));
    return {};
  },
  Get(_, ctx) {
    const all = [];
    for (const [topic, value] of ctx.state.entries()) {
      if (topic === "all") {
        all.push("all:" + value.get("said").value);
      } else {
        value.forEach((said) => all.push(topic + ":" + said));
      }
    }
    return { words: all.sort() };
  },
});

const attendance = (state) => ({ mine: state.vote, for: state.votesFor, of: state.totalVoters });
const listeners = new Map();
const presence = entity("Presence", () => new crdt.Vote(), {
  Join(_, ctx) {
    ctx.state.vote = true;
    return attendance(ctx.state);
  },
  Stay({ id }, ctx) {
    listeners.set(id, (listeners.get(id) || 0) + 1);
    ctx.onStateChange = (state) => attendance(state);
    ctx.onStreamCancel = (state) => {
      listeners.set(id, listeners.get(id) - 1);
      state.vote = listeners.get(id) > 0;
    };
    ctx.state.vote = true;
    return attendance(ctx.state);
  },
  Get: (_, ctx) => attendance(ctx.state),
});

const calculator = new Stateless(proto, named("Calculator"), { includeDirs });
calculator.commandHandlers = {
  Double: ({ value }) => ({ value: 2 * number(value) }),
  Until(stream, { value }) {
    for (let n = 1; n <= number(value); n += 1) {
      stream.write({ value: n });
    }
    stream.end();
  },
  Doubled(stream, { value }) {
    if (number(value) === 0) {
      return stream.end();
    }
    stream.write({ value: 2 * number(value) });
  },
};

new CloudState()
  .addEntity(visits, scores, guests, topics, titles, doors, minutes, presence, calculator)
  .start({ bindAddress: process.env.HOST || "127.0.0.1", bindPort: process.env.PORT || 8080 });
