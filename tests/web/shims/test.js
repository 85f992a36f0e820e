export function test(name, options, body = options) {
  if (!options.skip) globalThis.queued.push([name, body]);
}
