/** Checked by `npm run check`, never run: the functions are what api.d.ts declares, no more and no less. */
import type * as declared from "../src/api";
import * as written from "../src/index.js";

export const all: typeof declared = written;
export const names: { [name in keyof typeof written]: keyof typeof declared } = null as never;
