// The page: a row for each file, with its progress. What is not finished is kept in the browser's local storage, so that
// it is found again after a reload. A script may not open a file again by itself: the user chooses the same one.
import { describe, terminate, upload } from "./tus.js";

const ENDPOINT = "/files/";
const AT_ONCE = 3; // uploads
const STORED = "upload ";

const rows = new Set();
const $ = (selector, parent = document) => parent.querySelector(selector);
const bytes = (count) => {
  const units = ["bytes", "KB", "MB", "GB", "TB"];
  const power = Math.min(Math.floor(Math.log10(Math.max(count, 1)) / 3), 4);
  return `${(count / 1000 ** power).toFixed(power ? 1 : 0)} ${units[power]}`;
};

// What a file is known by: another one with the same is taken for it.
const fingerprint = ({ name, size, lastModified }) => ({ name, size, lastModified });
const isSame = (one, other) => JSON.stringify(fingerprint(one)) === JSON.stringify(fingerprint(other));

const ACTIONS = {
  waiting: { Skip: "skip" },
  uploading: { Pause: "pause" },
  paused: { Resume: "wait", Cancel: "discard" },
  found: { "Choose the file": "choose", Discard: "discard" },
  failed: { Retry: "wait", Skip: "skip" },
  done: {},
};

class Row {
  constructor(known, file, url = null) {
    Object.assign(this, { known, file, url });
    this.element = $("#row").content.firstElementChild.cloneNode(true);
    $(".name", this.element).textContent = known.name;
    $(".size", this.element).textContent = bytes(known.size);
    $("progress", this.element).setAttribute("aria-label", known.name);
    $("input", this.element).onchange = ({ target }) => this.take(target.files[0]);
    $("#uploads").append(this.element);
    rows.add(this);
  }

  enter(state, text) {
    this.state = this.element.dataset.state = state;
    this.say(text);
    $(".actions", this.element).replaceChildren(
      ...Object.entries(ACTIONS[state]).map(([label, action]) => {
        const button = document.createElement("button");
        Object.assign(button, { type: "button", textContent: label, onclick: () => this[action]() });
        button.setAttribute("aria-label", `${label}: ${this.known.name}`);
        button.dataset.action = action;
        return button;
      }),
    );
    changed();
  }

  say(text) {
    $(".state", this.element).textContent = text;
  }

  show(offset) {
    $("progress", this.element).value = this.known.size ? offset / this.known.size : 1;
    if (this.state === "uploading") this.say(`${bytes(offset)} sent`);
  }

  async start() {
    this.abort = new AbortController();
    this.enter("uploading", "Starting");
    try {
      await upload(this.file, ENDPOINT, {
        url: this.url,
        metadata: { filename: this.file.name, filetype: this.file.type },
        signal: this.abort.signal,
        onUrl: (url) => this.keep(url),
        onProgress: (offset) => this.show(offset),
      });
      this.finish();
    } catch (error) {
      if (this.abort.signal.aborted) return this.enter("paused", "Paused");
      if (error.isGone) this.forget();
      this.enter("failed", `Failed: ${error.message}`);
    }
  }

  finish() {
    localStorage.removeItem(STORED + this.url);
    this.show(this.known.size);
    this.enter("done", "");
    const link = document.createElement("a");
    Object.assign(link, { href: this.url, textContent: "Download" });
    link.setAttribute("aria-label", `Download ${this.known.name}`);
    $(".actions", this.element).append(link);
  }

  keep(url) {
    this.url = url;
    localStorage.setItem(STORED + url, JSON.stringify({ url, ...this.known }));
  }

  forget() {
    localStorage.removeItem(STORED + this.url);
    this.url = null;
  }

  // Show an upload of an earlier visit: how far it is, the server knows. It may still store what came before a reload, so
  // it is asked until it says the same again.
  async find() {
    this.enter("found", "Looking for the upload");
    try {
      for (let before = null; this.state === "found"; await new Promise((resolve) => setTimeout(resolve, 1000))) {
        const { offset } = await describe(this.url);
        if (this.state !== "found" || offset === before) return;
        if (offset === this.known.size) return this.finish();
        this.show(offset);
        this.say(`Not finished: the server has ${bytes(offset)}. Choose the same file to continue.`);
        before = offset;
      }
    } catch (error) {
      if (this.state !== "found") return;
      if (error.isGone) return this.skip();
      this.say(`Not finished, and the server did not say how far it is (${error.message}). Choose the same file to continue.`);
    }
  }

  choose() {
    $("input", this.element).click();
  }

  take(file) {
    if (!isSame(file, this.known)) {
      const { name, size, lastModified } = this.known;
      return this.say(`This is another file. Choose ${name} of ${size} bytes, changed ${new Date(lastModified).toLocaleString()}.`);
    }
    this.file = file;
    this.wait();
  }

  pause() {
    this.abort.abort();
  }

  wait() {
    this.enter("waiting", "Waiting");
  }

  async discard() {
    try {
      await terminate(this.url);
    } catch (error) {
      if (!error.isGone) return this.say(`Not removed: ${error.message}`);
    }
    this.skip();
  }

  skip() {
    if (this.url) this.forget();
    this.state = "gone";
    this.element.remove();
    rows.delete(this);
    changed();
  }
}

function inState(...states) {
  return [...rows].filter((row) => states.includes(row.state));
}

let isChanged = false;

// Called when a row has another state; with thousands of files, `update` runs once for all of them.
function changed() {
  if (!isChanged) queueMicrotask(update);
  isChanged = true;
}

// Start waiting uploads, and say how many there are in each state.
function update() {
  isChanged = false;
  const free = AT_ONCE - inState("uploading").length;
  for (const row of inState("waiting").slice(0, Math.max(free, 0))) row.start();
  const counts = Object.keys(ACTIONS).map((state) => [inState(state).length, state]).filter(([count]) => count);
  $("#summary").textContent = counts.map(([count, state]) => `${count} ${state === "found" ? "unfinished" : state}`).join(", ");
  $("#all").hidden = inState("failed").length < 2;
}

function add(files) {
  for (const file of files) {
    const found = inState("found").find((row) => isSame(row.known, file));
    if (found) found.take(file);
    else new Row(fingerprint(file), file).wait();
  }
}

// Where the server asks for a token, it prints the address of this page with it. A cookie also goes with links.
if (location.hash) {
  document.cookie = `token=${location.hash.slice(1)}; path=${ENDPOINT}; SameSite=Strict`;
  history.replaceState(null, "", location.pathname);
}

$("#files").onchange = ({ target }) => {
  add(target.files);
  target.value = "";
};
document.ondragover = (event) => event.preventDefault();
document.ondrop = (event) => {
  event.preventDefault();
  add(event.dataTransfer.files);
};
$("#retry-all").onclick = () => inState("failed").forEach((row) => row.wait());
$("#skip-all").onclick = () => inState("failed").forEach((row) => row.skip());

for (const key of Object.keys(localStorage).filter((each) => each.startsWith(STORED))) {
  const { url, ...known } = JSON.parse(localStorage.getItem(key));
  new Row(known, null, url).find();
}
