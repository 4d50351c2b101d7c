// Cases in a row, one line each to standard output: `ok NAME`, `skip NAME: WHY` or `not ok NAME: WHY`.

export class Skip extends Error {}

// Longest wait for anything.
const LIMIT = 60_000;

export function within(promise, what) {
  let timer;
  const late = new Promise((_, refuse) => {
    timer = setTimeout(() => refuse(new Error(`${what}: not within ${LIMIT / 1000} s`)), LIMIT);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

export async function run(cases) {
  let failed = false;
  for (const [name, body] of Object.entries(cases)) {
    try {
      await within(body(), name);
      console.log(`ok ${name}`);
    } catch (error) {
      if (error instanceof Skip) {
        console.log(`skip ${name}: ${error.message}`);
        continue;
      }
      failed = true;
      console.error(error);
      console.log(`not ok ${name}: ${String(error?.message ?? error).replace(/\s+/g, ' ').slice(0, 600)}`);
    }
  }
  process.exit(failed ? 1 : 0);
}
