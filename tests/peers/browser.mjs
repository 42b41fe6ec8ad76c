// A browser (Chromium, driven by playwright-core) that a test leads click by click.
//
// Each line on stdin is a command, each is answered by a line on stdout, in order: {"ok": true, ...}, or
// {"ok": false, "error": "..."}. No command takes longer than 20 s. It ends when stdin does.
//
//   {"command": "open", "url"}                        -> status, url     waits until it is loaded
//   {"command": "fill", <element>, "value"}
//   {"command": "click", <element>}
//   {"command": "text", <element>}                    -> text            as it is seen
//   {"command": "count", <element>}                   -> count           as it is now
//   {"command": "waitFor", "url" or <element>, "timeoutMs"?}             10 s, 15 s at most
//   {"command": "url"}                                -> url
//   {"command": "screenshot", "path"}                                    PNG, the whole page
//   {"command": "cookies"}                            -> cookies         of every host, with their flags
//   {"command": "newContext", "name"}                                    another browser's worth of cookies; goes there
//   {"command": "switchTo", "name"}                                      goes back; the first is "main"
//   {"command": "problems"}                           -> problems        [{context, kind, text, url}] since last asked
//
// An <element> is one of "selector" (CSS), "label" (of a field), "text" (a part of it, whatever the case), or "role" with
// "name" (the whole of it). More than one that fits is an error for fill, click and text. "url" of waitFor is how the URL
// begins. The page is the newest that is open. Problems are errors that a page threw, and those on its console: what a
// content security policy stopped, and resources that failed to load, are there. Nothing but loopback can be reached.

import { setTimeout as sleep } from 'node:timers/promises';
import { stripVTControlCharacters } from 'node:util';

import { lines, need, say, whenTestEnds } from './peer.mjs';

const { chromium } = need('playwright-core');

const CHROMIUM = '/usr/bin/chromium';
const PATIENCE_MS = 10_000;
const MOST_PATIENCE_MS = 15_000;
const LIMIT_MS = 20_000;
const POLL_MS = 25;

const browser = await chromium.launch({
  executablePath: CHROMIUM,
  headless: true,
  args: [
    '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
    '--disable-component-update', '--disable-sync',
    '--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE *.localhost, EXCLUDE 127.0.0.1, EXCLUDE [::1]',
  ],
});

const contexts = new Map();
let current;
let problems = [];

async function newContext({ name }) {
  if (!name || contexts.has(name)) throw new Error('a context needs a name of its own');
  const context = await browser.newContext({ locale: 'en-GB', timezoneId: 'UTC' });
  context.setDefaultTimeout(PATIENCE_MS);
  context.on('console', (message) => {
    if (message.type() !== 'error') return;
    problems.push({ context: name, kind: 'console', text: message.text(), url: message.location().url });
  });
  context.on('weberror', (problem) => {
    const url = problem.page()?.url() ?? '';
    problems.push({ context: name, kind: 'error', text: String(problem.error()), url });
  });
  await context.newPage();
  contexts.set(name, context);
  current = context;
}

function page() {
  const newest = current.pages().at(-1);
  if (!newest) throw new Error('no page is open');
  return newest;
}

function element({ selector, label, text, role, name }) {
  if (selector !== undefined) return page().locator(selector);
  if (label !== undefined) return page().getByLabel(label);
  if (text !== undefined) return page().getByText(text);
  if (role !== undefined) return page().getByRole(role, { name, exact: true });
  throw new Error('which element: selector, label, text, or role and name');
}

const commands = {
  async open({ url }) {
    const here = page();
    const response = await here.goto(url).catch(async (cause) => {
      await here.waitForEvent('framenavigated', { timeout: 1_000 }).catch(() => {}); // To Chromium's page about it.
      throw cause;
    });
    return { status: response?.status(), url: here.url() };
  },
  async fill({ value, ...wanted }) {
    await element(wanted).fill(value);
  },
  async click(wanted) {
    await element(wanted).click();
  },
  async text(wanted) {
    return { text: await element(wanted).innerText() };
  },
  async count(wanted) {
    return { count: await element(wanted).count() };
  },
  async waitFor({ url, timeoutMs = PATIENCE_MS, ...wanted }) {
    const timeout = Math.min(timeoutMs, MOST_PATIENCE_MS);
    if (url === undefined) {
      await element(wanted).first().waitFor({ timeout });
      return;
    }
    const deadline = Date.now() + timeout;
    while (!page().url().startsWith(url)) { // Of whichever page is then the newest.
      if (Date.now() > deadline) throw new Error(`after ${timeout} ms the page is still ${page().url()}`);
      await sleep(POLL_MS);
    }
    await page().waitForLoadState('load', { timeout });
  },
  url: () => ({ url: page().url() }),
  async screenshot({ path }) {
    await page().screenshot({ path, fullPage: true });
  },
  cookies: async () => ({ cookies: await current.cookies() }),
  newContext,
  switchTo({ name }) {
    if (!contexts.has(name)) throw new Error(`no context is called ${name}`);
    current = contexts.get(name);
  },
  problems() {
    const seen = problems;
    problems = [];
    return { problems: seen };
  },
};

async function obey(line) {
  const { command, ...wanted } = JSON.parse(line);
  if (!Object.hasOwn(commands, command)) throw new Error(`no command is called ${command}`);
  return commands[command](wanted);
}

/** Rejects in time, whatever the browser does. */
function atMost(milliseconds, work) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`took longer than ${milliseconds} ms`)), milliseconds);
  });
  return Promise.race([work, late]).finally(() => clearTimeout(timer));
}

await newContext({ name: 'main' });
whenTestEnds(() => atMost(LIMIT_MS, browser.close()).finally(() => process.exit(0)));
for await (const line of lines) {
  try {
    say({ ok: true, ...await atMost(LIMIT_MS, obey(line)) });
  } catch (cause) {
    say({ ok: false, error: stripVTControlCharacters(cause.message) });
  }
}
