// Serves uploads at /files on HOST:PORT with @tus/server: node tus_node.mjs PACKAGES HOST PORT FOLDER
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const [packages, host, port, folder] = process.argv.slice(2);
const load = (name) => import(pathToFileURL(createRequire(`${packages}/`).resolve(name)));
const { Server } = await load("@tus/server");
const { FileStore } = await load("@tus/file-store");

// Version 2.4.5 on Node 20 may close the stream of a request whose client has gone a second time, and would end.
process.on("uncaughtException", (error) => {
  if (error.code !== "ERR_INVALID_STATE") throw error;
});

new Server({ path: "/files", datastore: new FileStore({ directory: folder }) }).listen({ host, port: Number(port) });
