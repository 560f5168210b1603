// Runs checks one after the other, tells each failure and in the end how many passed.

import { setTimeout as sleep } from 'node:timers/promises';

// The longest that a check may take, in milliseconds.
const LONGEST = 20_000;

// Waits until a condition holds: what one peer announces reaches another a moment later.
export async function eventually(condition, milliseconds = 5000) {
    const end = Date.now() + milliseconds;
    while (!(await condition())) {
        if (Date.now() > end) throw new Error('it did not come true in time');
        await sleep(10);
    }
}

// Runs every check with every one of the settings; `open` makes what the checks are given.
export async function run(client, checks, settings, open) {
    // Keys of an earlier run are in nobody's way.
    const run = Date.now().toString(16);
    let [passed, failed] = [0, 0];
    for (const [number, setting] of settings.entries()) {
        for (const [name, check] of Object.entries(checks)) {
            let given;
            try {
                given = await open(setting);
                const end = sleep(LONGEST, null, { ref: false }).then(() => Promise.reject(new Error('it takes too long')));
                await Promise.race([check({ ...given, key: (suffix) => `${run}:${number}:${name}:${suffix}` }), end]);
                passed++;
            } catch (error) {
                failed++;
                console.log(`FAILED ${name} with ${JSON.stringify(setting)}: ${error.stack}`);
            }
            given?.close().catch((error) => console.log(`closing: ${error.message}`));
        }
    }
    console.log(`${client}: ${passed} passed, ${failed} failed`);
    process.exit(failed > 0 ? 1 : 0);
}
