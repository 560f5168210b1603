// ioredis with its default settings, with RESP2 and with RESP3, against peers: node ioredis.js PORT [PORT ...]
//
// Every check gets a client of the first peer, one of the last, and a prefix for its keys. What is written at one peer is read at the other.

import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import { setTimeout as sleep } from 'node:timers/promises';
import Redis from 'ioredis';
import { run, eventually } from './checks.js';

const ports = process.argv.slice(2).map(Number);
const { version } = createRequire(import.meta.url)('ioredis/package.json');

async function collect(stream) {
    const found = [];
    for await (const part of stream) found.push(...part);
    return found;
}

const checks = {
    async values_of_every_type({ one, other, key }) {
        assert.equal(await one.set(key('s'), 'value', 'EX', 100), 'OK');
        assert.equal(await other.get(key('s')), 'value');
        assert.equal(await other.incrby(key('n'), 42), 42);
        assert.equal(await one.incrbyfloat(key('n'), 0.5), '42.5');
        assert.equal(await one.hset(key('h'), { a: 1, b: 'two' }), 2);
        assert.deepEqual(await other.hgetall(key('h')), { a: '1', b: 'two' });
        assert.equal(await one.sadd(key('set'), 'x', 'y'), 2);
        assert.deepEqual((await other.smembers(key('set'))).sort(), ['x', 'y']);
        assert.equal(await one.zadd(key('z'), 1, 'a', 2.5, 'b'), 2);
        assert.deepEqual(await other.zrange(key('z'), 0, -1, 'WITHSCORES'), ['a', '1', 'b', '2.5']);
        assert.equal(await one.rpush(key('l'), 'a', 'b'), 2);
        assert.deepEqual(await other.lrange(key('l'), 0, -1), ['a', 'b']);
        assert.equal(await one.del(key('s'), key('l'), key('none')), 2);
        assert.deepEqual(await other.getBuffer(key('s')), null);
        const bytes = Buffer.from([0, 255, 13, 10]);
        await one.set(key('raw'), bytes);
        assert.deepEqual(await other.getBuffer(key('raw')), bytes);
    },

    async pipelines_and_transactions({ one, other, key }) {
        const pipeline = one.pipeline();
        for (let number = 0; number < 1000; number++) pipeline.incr(key('n'));
        assert.deepEqual((await pipeline.exec()).at(-1), [null, 1000]);
        const replies = await other.multi().set(key('a'), 'text').incr(key('a')).get(key('a')).exec();
        assert.equal(replies[0][1], 'OK');
        assert.match(replies[1][0].message, /not an integer/);
        assert.equal(replies[2][1], 'text');
        await one.watch(key('a'));
        await other.set(key('a'), 'changed');
        assert.equal(await one.multi().set(key('a'), 'lost').exec(), null);
        assert.equal(await other.get(key('a')), 'changed');
        const at_once = Array.from({ length: 500 }, (_, number) => other.set(key(`many:${number}`), number));
        assert.ok((await Promise.all(at_once)).every((reply) => reply === 'OK'));
    },

    async commands_gathered_by_the_client({ ports, settings, key }) {
        const client = new Redis({ port: ports[0], ...settings, enableAutoPipelining: true });
        const sums = await Promise.all(Array.from({ length: 200 }, () => client.incr(key('n'))));
        assert.deepEqual(sums.sort((left, right) => left - right).at(-1), 200);
        await client.quit();
    },

    async scanning({ one, other, key }) {
        const names = Array.from({ length: 300 }, (_, number) => key(`scan:${number}`));
        await one.mset(...names.flatMap((name) => [name, '1']));
        const found = new Set(await collect(other.scanStream({ match: key('scan:*'), count: 50 })));
        assert.deepEqual([...found].sort(), names.sort());
        const fields = Array.from({ length: 700 }, (_, number) => `f${number}`);
        await one.hset(key('h'), ...fields.flatMap((field) => [field, field]));
        assert.equal(new Set(await collect(other.hscanStream(key('h')))).size, 700);
        await one.zadd(key('z'), ...fields.flatMap((field, number) => [number, field]));
        assert.equal(new Set((await collect(other.zscanStream(key('z')))).filter((_, place) => place % 2 === 0)).size, 700);
    },

    async messages({ one, ports, settings, key }) {
        const subscriber = new Redis({ port: ports.at(-1), ...settings });
        const got = [];
        subscriber.on('message', (channel, message) => got.push([channel, message]));
        subscriber.on('pmessage', (pattern, channel, message) => got.push([pattern, channel, message]));
        assert.equal(await subscriber.subscribe(key('news'), key('more')), 2);
        assert.equal(await subscriber.psubscribe(key('n*')), 3);
        await eventually(async () => (await one.publish(key('news'), 'hello')) === 2);
        await eventually(async () => got.length >= 2);
        assert.deepEqual(got.slice(0, 2).sort((left, right) => left.length - right.length), [[key('news'), 'hello'], [key('n*'), key('news'), 'hello']]);
        if (settings.protocol === 2) await assert.rejects(subscriber.get(key('x')), /subscriber mode/);
        assert.equal(await subscriber.unsubscribe(key('news'), key('more')), 1);
        assert.equal(await subscriber.punsubscribe(key('n*')), 0);
        assert.equal(await subscriber.set(key('x'), '1'), 'OK');
        await subscriber.quit();
    },

    async blocking_pops({ one, other, key }) {
        sleep(200).then(() => other.rpush(key('q'), 'job', 'next'));
        assert.deepEqual(await one.blpop(key('none'), key('q'), 5), [key('q'), 'job']);
        assert.equal(await one.blmove(key('q'), key('done'), 'LEFT', 'RIGHT', 5), 'next');
        assert.equal(await one.blpop(key('q'), 0.2), null);
        sleep(200).then(() => other.zadd(key('z'), 7, 'm'));
        assert.deepEqual(await one.bzpopmax(key('z'), 5), [key('z'), 'm', '7']);
    },

    async a_lost_connection_is_made_again({ ports, settings, key }) {
        const client = new Redis({ port: ports[0], ...settings });
        await client.set(key('a'), '1');
        client.stream.destroy();
        assert.equal(await client.get(key('a')), '1');
        await client.quit();
    },
};

await run(`ioredis ${version}`, checks, [{}, { protocol: 2 }, { protocol: 3 }], async (settings) => {
    const [one, other] = [new Redis({ port: ports[0], ...settings }), new Redis({ port: ports.at(-1), ...settings })];
    return { one, other, ports, settings, close: () => Promise.all([one.quit(), other.quit()]) };
});
