// What browser.mjs adds to a page: uploads of the file that was chosen in #trove-file, by tus-js-client or by Uppy.
//
// Events: progress (sent, total), url (url) once it is known, result (ok, url; or error, and the status of the answer).
// Both clients keep the URLs of uploads in the page's local storage, and resume an unfinished upload of the same file.
import Uppy from "@uppy/core";
import Tus from "@uppy/tus";
import { Upload } from "tus-js-client";

let running;

const report = (event, fields) => window.troveReport({ event, ...fields });

function finish(url, error) {
  const failure = error && { error: error.message, status: error.originalResponse?.getStatus() ?? null };
  report("result", { ok: !error, url: url ?? null, ...failure });
}

export function prepare() {
  document.querySelector("#trove-file")?.remove();
  const input = document.createElement("input");
  Object.assign(input, { type: "file", id: "trove-file" });
  document.body.append(input);
}

async function startTus(file, endpoint, options) {
  const upload = new Upload(file, {
    metadata: { filename: file.name, filetype: file.type },
    ...options,
    endpoint,
    onProgress: (sent, total) => report("progress", { sent, total }),
    onUploadUrlAvailable: () => report("url", { url: upload.url }),
    onSuccess: () => finish(upload.url),
    onError: (error) => finish(upload.url, error),
  });
  const [previous] = await upload.findPreviousUploads();
  if (previous) upload.resumeFromPreviousUpload(previous);
  upload.start();
  return { pause: () => upload.abort(), resume: () => upload.start() };
}

function startUppy(file, endpoint, options) {
  const uppy = new Uppy().use(Tus, { ...options, endpoint });
  const known = new Set();
  uppy.on("upload-progress", (chosen, { bytesUploaded, bytesTotal }) => {
    const url = uppy.getFile(chosen.id)?.tus?.uploadUrl;
    if (url && !known.has(url)) report("url", { url });
    known.add(url);
    report("progress", { sent: bytesUploaded, total: bytesTotal });
  });
  uppy.on("upload-success", (chosen, response) => finish(response.uploadURL));
  uppy.on("upload-error", (chosen, error) => finish(chosen?.tus?.uploadUrl, error));
  uppy.addFile({ name: file.name, type: file.type, data: file, source: "trove" });
  uppy.upload();
  return { pause: () => uppy.pauseAll(), resume: () => uppy.resumeAll() };
}

export async function start(client, endpoint, options) {
  const [file] = document.querySelector("#trove-file").files;
  running = await (client === "uppy" ? startUppy : startTus)(file, endpoint, options);
}

export const pause = () => running.pause();
export const resume = () => running.resume();
