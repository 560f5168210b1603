// node-redis with its default settings, with RESP2 and with RESP3, against peers: node node_redis.js PORT [PORT ...]
//
// Every check gets a client of the first peer, one of the last, and a prefix for its keys. What is written at one peer is read at the other.

import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import { setTimeout as sleep } from 'node:timers/promises';
import { createClient, WatchError } from 'redis';
import { run, eventually } from './checks.js';

const ports = process.argv.slice(2).map(Number);
const { version } = createRequire(import.meta.url)('redis/package.json');

async function connect(port, settings) {
    const client = createClient({ ...settings, socket: { port } });
    client.on('error', (error) => console.log(`connection: ${error.message}`));
    await client.connect();
    return client;
}

const checks = {
    async values_of_every_type({ one, other, key }) {
        assert.equal(await one.set(key('s'), 'value', { expiration: { type: 'EX', value: 100 } }), 'OK');
        assert.equal(await other.get(key('s')), 'value');
        assert.equal(await other.incrBy(key('n'), 42), 42);
        assert.equal(await one.hSet(key('h'), { a: '1', b: 'two' }), 2);
        assert.deepEqual({ ...(await other.hGetAll(key('h'))) }, { a: '1', b: 'two' });
        assert.equal(await one.sAdd(key('set'), ['x', 'y']), 2);
        assert.deepEqual([...(await other.sMembers(key('set')))].sort(), ['x', 'y']);
        assert.equal(await one.zAdd(key('z'), [{ value: 'a', score: 1 }, { value: 'b', score: 2.5 }]), 2);
        assert.deepEqual(await other.zRangeWithScores(key('z'), 0, -1), [{ value: 'a', score: 1 }, { value: 'b', score: 2.5 }]);
        assert.equal(await one.rPush(key('l'), ['a', 'b']), 2);
        assert.deepEqual(await other.lRange(key('l'), 0, -1), ['a', 'b']);
        assert.equal(await one.pfAdd(key('p'), ['a', 'b']), 1);
        assert.equal(await other.pfCount(key('p')), 2);
        assert.equal(await one.geoAdd(key('g'), { longitude: 13.361389, latitude: 38.115556, member: 'Palermo' }), 1);
        assert.equal((await other.geoPos(key('g'), 'Palermo')).length, 1);
        assert.equal(await one.del([key('s'), key('l'), key('none')]), 2);
        assert.equal(await other.get(key('s')), null);
        assert.equal(await one.expire(key('h'), 100), 1);
        assert.ok((await other.ttl(key('h'))) > 0);
    },

    async transactions({ one, other, key, settings, ports }) {
        const replies = await one.multi().set(key('a'), '1').incr(key('a')).get(key('a')).exec();
        assert.deepEqual(replies, ['OK', 2, '2']);
        const watcher = await connect(ports[0], settings);
        await watcher.watch(key('a'));
        await other.set(key('a'), 'changed');
        await assert.rejects(watcher.multi().set(key('a'), 'lost').exec(), WatchError);
        assert.equal(await other.get(key('a')), 'changed');
        await watcher.close();
        const sums = await Promise.all(Array.from({ length: 500 }, () => other.incr(key('n'))));
        assert.equal(Math.max(...sums), 500);
    },

    async scanning({ one, other, key }) {
        const names = Array.from({ length: 300 }, (_, number) => key(`scan:${number}`));
        await one.mSet(Object.fromEntries(names.map((name) => [name, '1'])));
        const found = new Set();
        for await (const part of other.scanIterator({ MATCH: key('scan:*'), COUNT: 50 })) part.forEach((name) => found.add(name));
        assert.deepEqual([...found].sort(), names.sort());
        const members = Array.from({ length: 700 }, (_, number) => `m${number}`);
        await one.sAdd(key('s'), members);
        const met = new Set();
        for await (const part of other.sScanIterator(key('s'))) part.forEach((member) => met.add(member));
        assert.equal(met.size, 700);
        await one.hSet(key('h'), Object.fromEntries(members.map((member) => [member, '1'])));
        const fields = new Set();
        for await (const part of other.hScanIterator(key('h'))) part.forEach(({ field }) => fields.add(field));
        assert.equal(fields.size, 700);
    },

    async messages({ one, ports, settings, key }) {
        const subscriber = await connect(ports.at(-1), settings);
        const got = [];
        await subscriber.subscribe(key('news'), (message, channel) => got.push([channel, message]));
        await subscriber.pSubscribe(key('n*'), (message, channel) => got.push([channel, message]));
        await eventually(async () => (await one.publish(key('news'), 'hello')) === 2);
        await eventually(async () => got.length >= 2);
        assert.deepEqual(got.slice(0, 2), [[key('news'), 'hello'], [key('news'), 'hello']]);
        await subscriber.unsubscribe();
        await subscriber.pUnsubscribe();
        assert.equal(String(await subscriber.set(key('x'), '1')), 'OK');
        await subscriber.close();
    },

    async blocking_pops({ one, other, key }) {
        sleep(200).then(() => other.rPush(key('q'), ['job', 'next']));
        const popped = await one.blPop([key('none'), key('q')], 5);
        assert.deepEqual({ ...popped }, { key: key('q'), element: 'job' });
        assert.equal(await one.blMove(key('q'), key('done'), 'LEFT', 'RIGHT', 5), 'next');
        assert.equal(await one.blPop(key('q'), 0.2), null);
        sleep(200).then(() => other.zAdd(key('z'), { value: 'm', score: 7 }));
        assert.deepEqual({ ...(await one.bzPopMin(key('z'), 5)) }, { key: key('z'), value: 'm', score: 7 });
    },

    async what_a_server_tells({ one, key }) {
        assert.match(await one.info(), /redis_version:/);
        assert.equal(await one.ping(), 'PONG');
        assert.ok((await one.clientId()) > 0);
        assert.ok((await one.dbSize()) >= 0);
        await one.set(key('s'), 'text');
        await assert.rejects(one.lPush(key('s'), '1'), /WRONGTYPE/);
        await assert.rejects(one.sendCommand(['NOSUCH', 'a']), /unknown command 'NOSUCH'/);
    },
};

await run(`node-redis ${version}`, checks, [{}, { RESP: 2 }, { RESP: 3 }], async (settings) => {
    const [one, other] = [await connect(ports[0], settings), await connect(ports.at(-1), settings)];
    return { one, other, ports, settings, close: () => Promise.all([one.close(), other.close()]) };
});
