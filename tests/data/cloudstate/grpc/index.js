// What the SDK uses of the package `grpc`, which is built for no Node.js that is still to be had: by its successor, whose servers
// are bound by and by.
"use strict";
const grpc = require("@grpc/grpc-js");

class Server extends grpc.Server {
  bind(address, credentials) {
    this.bindAsync(address, credentials, (error) => {
      if (error) {
        console.error(error.message);
        process.exit(1);
      }
    });
    return Number(address.split(":").pop());
  }

  // A server that is bound has started.
  start() {}
}

module.exports = { ...grpc, Server };
