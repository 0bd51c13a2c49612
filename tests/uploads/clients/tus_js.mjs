// tus-js-client in Node, as a command that prints its events: one JSON object a line, the result last.
//
//   node tus_js.mjs PACKAGES upload FILE ENDPOINT [--options JSON] [--previous FILE]
//   node tus_js.mjs PACKAGES terminate URL [--options JSON]
//
// PACKAGES is the folder with node_modules. The options are those of tus-js-client: chunkSize, parallelUploads,
// uploadLengthDeferred, uploadDataDuringCreation, overridePatchMethod, retryDelays, protocol, metadata, headers,
// addRequestId, uploadUrl, ... With --previous the URLs of uploads are stored in this file, and an unfinished upload of
// the same FILE is resumed.
//
// Events: request (method, url, override: the method of X-HTTP-Method-Override), response (method, url, status),
// progress (sent, total), chunk (accepted, total), url (url), result (ok, url; or error, status and body of the answer).
// The exit code is 0 if the result is ok.
import { createReadStream } from "node:fs";
import { createRequire } from "node:module";
import { PassThrough } from "node:stream";
import { parseArgs } from "node:util";

const { positionals, values } = parseArgs({
  allowPositionals: true,
  options: { options: { type: "string", default: "{}" }, previous: { type: "string" } },
});
const [packages, command, ...operands] = positionals;
const tus = createRequire(`${packages}/`)("tus-js-client");

const report = (event, fields) => process.stdout.write(`${JSON.stringify({ event, ...fields })}\n`);

function finish(error, fields) {
  const response = error?.originalResponse;
  const failure = error && { error: error.message, status: response?.getStatus() ?? null, body: response?.getBody() };
  report("result", { ok: !error, ...fields, ...failure });
  process.exitCode = error ? 1 : 0;
}

const options = {
  ...JSON.parse(values.options),
  onBeforeRequest: (request) =>
    report("request", {
      method: request.getMethod(),
      url: request.getURL(),
      override: request.getHeader("X-HTTP-Method-Override"),
      id: request.getHeader("X-Request-ID"),
    }),
  onAfterResponse: (request, response) =>
    report("response", { method: request.getMethod(), url: request.getURL(), status: response.getStatus() }),
};

if (command === "terminate") {
  await tus.Upload.terminate(operands[0], options).then(() => finish(null, { url: operands[0] }), finish);
} else {
  const [file, endpoint] = operands;
  // A length is deferred for a stream that has no file: of a file, the client would send wrong sizes of chunks.
  const stream = createReadStream(file);
  const upload = new tus.Upload(options.uploadLengthDeferred ? stream.pipe(new PassThrough()) : stream, {
    ...options,
    endpoint,
    ...(values.previous && { urlStorage: new tus.FileUrlStorage(values.previous) }),
    onProgress: (sent, total) => report("progress", { sent, total }),
    onChunkComplete: (size, accepted, total) => report("chunk", { accepted, total }),
    onUploadUrlAvailable: () => report("url", { url: upload.url }),
    onSuccess: () => finish(null, { url: upload.url }),
    onError: (error) => finish(error, { url: upload.url }),
  });
  const [previous] = values.previous ? await upload.findPreviousUploads() : [];
  if (previous) upload.resumeFromPreviousUpload(previous);
  upload.start();
}
