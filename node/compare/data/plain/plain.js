// The counter of tests/data/kalix as people write it without a mesh: a plain gRPC service that gets a number from Redis and
// sets another (`node plain.js redis://HOST:PORT`), or one that keeps its numbers to itself (`node plain.js alone`).
// It listens at HOST and PORT, as a Kalix function does, on the version of gRPC that Kalix's SDK has.
"use strict";
const grpc = require("@grpc/grpc-js");
const loader = require("@grpc/proto-loader");
const { createClient } = require("redis");

const alone = () => {
  const numbers = new Map();
  const get = (id) => numbers.get(id) ?? 0;
  return {
    Get: (call, done) => done(null, { value: get(call.request.id) }),
    Change: (call, done) => {
      const value = get(call.request.id) + call.request.by;
      numbers.set(call.request.id, value);
      done(null, { value });
    },
  };
};

const withRedis = async (url) => {
  const redis = createClient({ url });
  redis.on("error", (error) => {
    console.error(error);
    process.exit(1);
  });
  await redis.connect();
  const get = async (id) => Number((await redis.get(id)) ?? 0);
  const change = async ({ id, by }) => {
    const value = (await get(id)) + by;
    await redis.set(id, String(value));
    return { value };
  };
  return {
    Get: (call, done) => get(call.request.id).then((value) => done(null, { value }), done),
    Change: (call, done) => change(call.request).then((number) => done(null, number), done),
  };
};

const start = async (where) => {
  const definition = loader.loadSync(__dirname + "/counter.proto", { longs: Number });
  const { Counter } = grpc.loadPackageDefinition(definition).anabranch.test;
  const server = new grpc.Server();
  server.addService(Counter.service, where === "alone" ? alone() : await withRedis(where));
  const address = process.env.HOST + ":" + process.env.PORT;
  server.bindAsync(address, grpc.ServerCredentials.createInsecure(), (error) => {
    if (error) throw error;
    server.start();
  });
};

start(process.argv[2]);
