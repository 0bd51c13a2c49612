// A client of tus 1.0 (https://tus.io/protocols/resumable-upload) for browsers, without dependencies.

const CHUNK = 50 * 1024 * 1024; // bytes of a request: less than common proxies accept
// Seconds before each attempt to go on, until bytes have arrived again. The server too may have to notice that a
// connection has ended.
const DELAYS = [0.5, 1, 2, 4, 8, 15, 30, 60];

export class UploadError extends Error {
  // `status` is that of the answer; 0 if there was none.
  constructor(message, status = 0, retryAfter = 0) {
    super(message);
    Object.assign(this, { status, retryAfter });
  }
  get isTemporary() {
    return [0, 409, 423, 429].includes(this.status) || this.status >= 500;
  }
  get isGone() {
    return [404, 410].includes(this.status);
  }
}

// Upload a file, and return the URL of the upload. After a failure that may pass, the server is asked how much it has,
// and the upload goes on there.
//
// url: of an upload that is continued; null to create one. onUrl is called with that of a new upload.
// onProgress: called with the number of bytes that were sent. signal: an AbortSignal, which pauses.
export async function upload(file, endpoint, { url = null, metadata = {}, signal, onUrl, onProgress }) {
  let offset = null; // null: the server is asked
  let reached = 0;
  let attempt = 0;
  for (;;) {
    try {
      if (url === null) {
        url = await create(endpoint, file.size, metadata, signal);
        onUrl(url);
        offset = 0;
      }
      offset ??= (await describe(url, signal)).offset;
      if (offset > reached) [reached, attempt] = [offset, 0];
      onProgress(offset);
      if (offset >= file.size) return url;
      offset = await append(url, offset, file.slice(offset, offset + CHUNK), signal, onProgress);
    } catch (error) {
      if (signal.aborted || !error.isTemporary || attempt >= DELAYS.length) throw error;
      await file.slice(0, 1).arrayBuffer(); // throws if the file was changed or removed meanwhile
      await wait(Math.max(DELAYS[attempt++], error.retryAfter), signal);
      offset = null;
    }
  }
}

// Return how many bytes of an upload the server has, and how many there are.
export async function describe(url, signal) {
  const answer = await send("HEAD", url, { signal });
  return { offset: number(answer, "Upload-Offset"), size: number(answer, "Upload-Length") };
}

// Remove an upload from the server.
export async function terminate(url) {
  await send("DELETE", url);
}

async function create(endpoint, size, metadata, signal) {
  const pairs = Object.entries(metadata).map(([name, value]) => `${name} ${base64(value)}`);
  const headers = { "Upload-Length": size, "Upload-Metadata": pairs.join(",") };
  const answer = await send("POST", endpoint, { headers, signal });
  return new URL(answer.getResponseHeader("Location"), new URL(endpoint, location)).href;
}

async function append(url, offset, chunk, signal, onProgress) {
  const headers = { "Upload-Offset": offset, "Content-Type": "application/offset+octet-stream" };
  const answer = await send("PATCH", url, { headers, signal, body: chunk, onSent: (sent) => onProgress(offset + sent) });
  return number(answer, "Upload-Offset");
}

// Send a request, and return its answer; throw an UploadError if it has failed. `fetch` would not tell how much was sent.
function send(method, url, { headers = {}, body = null, signal, onSent } = {}) {
  return new Promise((resolve, reject) => {
    signal?.throwIfAborted();
    const request = new XMLHttpRequest();
    const abort = () => request.abort();
    request.open(method, url);
    request.setRequestHeader("Tus-Resumable", "1.0.0");
    for (const [name, value] of Object.entries(headers)) request.setRequestHeader(name, value);
    if (onSent) request.upload.onprogress = (event) => onSent(event.loaded);
    request.onload = () => (request.status < 300 ? resolve(request) : reject(failure(request)));
    request.onerror = () => reject(new UploadError("the connection failed"));
    request.onabort = () => reject(signal.reason);
    request.onloadend = () => signal?.removeEventListener("abort", abort);
    signal?.addEventListener("abort", abort);
    request.send(body);
  });
}

function failure(request) {
  let reason = `${request.status} ${request.statusText}`;
  try {
    reason = JSON.parse(request.responseText).detail ?? reason; // application/problem+json (RFC 9457)
  } catch {
    // A proxy may have answered.
  }
  return new UploadError(reason, request.status, Number(request.getResponseHeader("Retry-After")) || 0);
}

function number(answer, name) {
  const value = answer.getResponseHeader(name);
  if (!/^\d+$/.test(value ?? "")) throw new UploadError(`the answer has no ${name}`, answer.status);
  return Number(value);
}

function base64(text) {
  return btoa(String.fromCharCode(...new TextEncoder().encode(text)));
}

function wait(seconds, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, seconds * 1000);
    signal.addEventListener("abort", () => (clearTimeout(timer), reject(signal.reason)), { once: true });
  });
}
