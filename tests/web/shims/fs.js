export function readFileSync(path, encoding) {
  const request = new XMLHttpRequest();
  request.open("GET", path, false);
  if (encoding === undefined) request.overrideMimeType("text/plain; charset=x-user-defined");
  request.send();
  if (request.status !== 200) throw new Error(`${path}: ${request.status}`);
  return encoding === undefined ? Uint8Array.from(request.responseText, (character) => character.charCodeAt(0) & 255) : request.responseText;
}
export function writeFileSync(path, bytes) {
  globalThis.written[path.split("/").at(-1)] = bytes;
}
