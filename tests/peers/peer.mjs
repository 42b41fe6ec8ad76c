// What the peers share: packages from where `make tools` put them, and lines of JSON as the way to speak to a test.

import { once } from 'node:events';
import { createRequire } from 'node:module';
import path from 'node:path';
import { createInterface } from 'node:readline';

const beside = path.join(import.meta.dirname, '../../target/tools');

/** Loads a package of tools/package.json. */
export const need = createRequire(path.join(path.resolve(process.env.KOMBIFY_TOOLS || beside), 'node/'));

const input = createInterface({ input: process.stdin });
const ended = once(input, 'close');

/** The lines on stdin, from the first one on, however late they are read. */
export const lines = input[Symbol.asyncIterator]();

/** Runs once the test has closed stdin, as it does however it ends: no peer outlives its test. */
export const whenTestEnds = (end) => ended.then(end);

/** Says one thing to the test. */
export const say = (message) => process.stdout.write(`${JSON.stringify(message)}\n`);
