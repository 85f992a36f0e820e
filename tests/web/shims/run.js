const encoded = (bytes) => btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join(""));
export async function run(urls) {
  const hex = (text) => Uint8Array.from(text.match(/../g) ?? [], (pair) => parseInt(pair, 16));
  globalThis.process = { env: { ENCMIXER_CASES: "/cases" } };
  globalThis.Buffer = { from: (given, kind) => {
    const bytes = kind === "hex" ? hex(given) : given;
    const url = () => encoded(bytes).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
    return { toString: (form) => (form === "base64url" ? url() : new TextDecoder().decode(bytes)) };
  } };
  Object.assign(globalThis, { queued: [], written: {} });
  for (const url of urls) await import(url);
  const done = { passed: 0, failed: [], said: [] };
  for (const [name, body] of globalThis.queued) {
    try {
      await body({ diagnostic: (text) => done.said.push(text) });
      done.passed++;
    } catch (error) {
      done.failed.push(`${name}: ${error.stack}`);
    }
  }
  const written = Object.fromEntries(Object.entries(globalThis.written).map(([name, bytes]) => [name, encoded(bytes)]));
  return { ...done, written };
}
