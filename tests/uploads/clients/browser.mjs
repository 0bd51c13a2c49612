// A page in headless Chromium, driven by commands on standard input: one JSON object a line.
//
//   node browser.mjs PACKAGES CHROMIUM
//
// PACKAGES is the folder with node_modules. A command is {"id": 1, "call": NAME, "arguments": [...]}; its answer is
// {"id": 1, "result": ...} or {"id": 1, "error": ...}. The end of the input closes the browser.
//
// Events are printed as they come: request (method, url), response (method, url, status), failure (method, url,
// reason) of requests that scripts sent; console (kind, text), error (text) of the page; and those of uploads, which
// page.mjs describes.
import { createRequire } from "node:module";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

const [packages, executablePath] = process.argv.slice(2);
const require = createRequire(`${packages}/`);
const { chromium } = require("playwright-core");
const esbuild = require("esbuild");

const print = (message) => process.stdout.write(`${JSON.stringify(message)}\n`);
const report = (event, fields) => print({ event, ...fields });

// Root may not use Chromium's sandbox, and containers have a small /dev/shm.
const browser = await chromium.launch({
  executablePath,
  chromiumSandbox: false,
  args: ["--disable-dev-shm-usage", "--disable-gpu"],
});
const context = await browser.newContext();
const page = await context.newPage();
await page.exposeFunction("troveReport", (message) => print(message));

const ofScript = (request) => ["fetch", "xhr"].includes(request.resourceType());
const named = (request) => ({ method: request.method(), url: request.url() });
page.on("request", (request) => ofScript(request) && report("request", named(request)));
page.on("requestfailed", (request) => {
  if (ofScript(request)) report("failure", { ...named(request), reason: request.failure()?.errorText });
});
page.on("response", (response) => {
  const request = response.request();
  if (ofScript(request)) report("response", { ...named(request), status: response.status() });
});
page.on("console", (message) => report("console", { kind: message.type(), text: message.text() }));
page.on("pageerror", (error) => report("error", { text: String(error) }));

let script;

async function clients() {
  const entry = fileURLToPath(new URL("page.mjs", import.meta.url));
  script ??= (
    await esbuild.build({
      entryPoints: [entry],
      nodePaths: [`${packages}/node_modules`],
      bundle: true,
      format: "iife",
      globalName: "troveUploads",
      write: false,
    })
  ).outputFiles[0].text;
  if (await page.evaluate(() => globalThis.troveUploads === undefined)) await page.addScriptTag({ content: script });
}

const commands = {
  // Pages
  goto: async (url) => void (await page.goto(url)),
  reload: async () => void (await page.reload()),
  choose: (selector, ...files) => page.setInputFiles(selector, files),
  click: (selector) => page.click(selector),
  text: (selector) => page.textContent(selector),
  wait: async (selector) => void (await page.waitForSelector(selector)),
  // An expression of JavaScript, whose value is awaited.
  evaluate: (expression) => page.evaluate(expression),
  // Wait until an expression of JavaScript is true.
  until: async (expression) => void (await page.waitForFunction(expression)),
  screenshot: async (path) => void (await page.screenshot({ path })),
  offline: (offline) => context.setOffline(offline),
  // Uploads by "tus" (tus-js-client) or "uppy", with options of tus-js-client, of a file on disk. It returns when the
  // upload has started; the event "result" tells its end.
  async upload(client, file, endpoint, options) {
    await clients();
    await page.evaluate(() => globalThis.troveUploads.prepare());
    await page.setInputFiles("#trove-file", file);
    await page.evaluate((chosen) => globalThis.troveUploads.start(...chosen), [client, endpoint, options]);
  },
  pause: () => page.evaluate(() => globalThis.troveUploads.pause()),
  resume: () => page.evaluate(() => globalThis.troveUploads.resume()),
};

const running = new Set();

async function run({ id, call, arguments: operands }) {
  try {
    print({ id, result: (await commands[call](...operands)) ?? null });
  } catch (error) {
    print({ id, error: String(error) });
  }
}

for await (const line of createInterface({ input: process.stdin })) {
  // They may overlap: one that waits delays no other.
  const one = run(JSON.parse(line)).finally(() => running.delete(one));
  running.add(one);
}
await browser.close();
await Promise.all(running);
