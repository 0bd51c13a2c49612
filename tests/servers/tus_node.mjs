// Serves uploads at /files on HOST:PORT with @tus/server: node tus_node.mjs PACKAGES HOST PORT FOLDER
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const [packages, host, port, folder] = process.argv.slice(2);
const load = (name) => import(pathToFileURL(createRequire(`${packages}/`).resolve(name)));
const { Server } = await load("@tus/server");
const { FileStore } = await load("@tus/file-store");

new Server({ path: "/files", datastore: new FileStore({ directory: folder }) }).listen({ host, port: Number(port) });
