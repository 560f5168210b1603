"""redis-py with its default settings against peers: redis_py.py PORT [PORT ...]

Every check gets a client of the first peer, one of the last, and a prefix for its keys. What is written at one peer is read at the other.
"""

import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import redis

PORTS = [int(port) for port in sys.argv[1:]]
# Keys of an earlier run are in nobody's way.
RUN = f"{time.time_ns():x}"
CHECKS = []


def check(function):
    CHECKS.append(function)
    return function


def is_ringtide(client):
    """The same checks hold at a Redis of version 7.0, but for what it doesn't have."""
    return "ringtide_version" in client.info("server")


def eventually(condition, seconds=5.0):
    """Waits until a condition holds: what one peer announces reaches another a moment later."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come true in time"
        time.sleep(0.01)


@check
def strings_and_counters(one, other, key):
    assert one.set(key("s"), "value", ex=100) is True
    assert other.get(key("s")) == "value"
    assert 0 < other.ttl(key("s")) <= 100
    assert one.set(key("s"), "other", nx=True) is None
    assert one.set(key("s"), "new", get=True) == "value"
    assert one.incr(key("n")) == 1 and other.incrby(key("n"), 41) == 42 and one.decr(key("n")) == 41
    assert one.incrbyfloat(key("f"), 0.1) == 0.1 and other.incrbyfloat(key("f"), 0.2) == 0.3
    assert one.mset({key("a"): "1", key("b"): "2"}) is True
    assert other.mget(key("a"), key("none"), key("b")) == ["1", None, "2"]
    assert one.append(key("s"), "!") == 4 and other.getrange(key("s"), 0, 1) == "ne" and one.setrange(key("s"), 0, "N") == 4
    assert other.getdel(key("s")) == "New!" and one.exists(key("s")) == 0
    assert one.setbit(key("bits"), 7, 1) == 0 and other.bitcount(key("bits")) == 1 and one.bitpos(key("bits"), 1) == 7
    assert one.bitfield(key("field")).incrby("u8", 0, 255).incrby("u8", 0, 1).execute() == [255, 0]
    assert one.delete(key("a"), key("b")) == 2


@check
def binary_values_and_keys(one, other, key):
    raw = redis.Redis(port=PORTS[0])
    name, value = key("raw").encode() + b"\x00\xff\r\n", bytes(range(256)) * 300
    assert raw.set(name, value) is True and raw.get(name) == value
    assert raw.hset(name + b"h", b"\xff", b"\xfe") == 1 and raw.hgetall(name + b"h") == {b"\xff": b"\xfe"}


@check
def hashes(one, other, key):
    assert one.hset(key("h"), mapping={"a": "1", "b": "two"}) == 2
    assert other.hgetall(key("h")) == {"a": "1", "b": "two"}
    assert one.hincrby(key("h"), "a", 4) == 5 and other.hincrbyfloat(key("h"), "a", 0.5) == 5.5
    assert other.hmget(key("h"), "b", "c") == ["two", None] and one.hexists(key("h"), "b") is True
    assert one.hdel(key("h"), "a", "c") == 1 and other.hlen(key("h")) == 1 and other.hkeys(key("h")) == ["b"]
    assert one.hsetnx(key("h"), "b", "x") == 0 and one.hrandfield(key("h"), 1, withvalues=True) in (["b", "two"], [["b", "two"]])


@check
def sets(one, other, key):
    assert one.sadd(key("a"), "x", "y", "z") == 3 and other.sadd(key("b"), "y", "w") == 2
    assert other.smembers(key("a")) == {"x", "y", "z"} and one.scard(key("b")) == 2
    assert one.sinter(key("a"), key("b")) == {"y"} and other.sunion(key("a"), key("b")) == {"x", "y", "z", "w"}
    assert other.sdiff(key("a"), key("b")) == {"x", "z"} and one.sintercard(2, [key("a"), key("b")]) == 1
    assert one.sinterstore(key("c"), key("a"), key("b")) == 1 and other.smembers(key("c")) == {"y"}
    assert one.smove(key("a"), key("b"), "x") is True and other.sismember(key("b"), "x") == 1
    assert other.smismember(key("a"), ["x", "y"]) == [0, 1]
    assert one.spop(key("c")) == "y" and other.exists(key("c")) == 0
    assert one.srem(key("a"), "y", "none") == 1 and one.srandmember(key("a"), 5) == ["z"]


@check
def sorted_sets(one, other, key):
    assert one.zadd(key("z"), {"a": 1, "b": 2.5, "c": 3}) == 3
    assert other.zrange(key("z"), 0, -1) == ["a", "b", "c"]
    scored = [(member, float(score)) for member, score in other.zrange(key("z"), 0, -1, withscores=True)]
    assert scored == [("a", 1.0), ("b", 2.5), ("c", 3.0)]
    assert one.zincrby(key("z"), 10, "a") == 11.0 and other.zrank(key("z"), "a") == 2 and other.zrevrank(key("z"), "a") == 0
    assert one.zrangebyscore(key("z"), "(2.5", "+inf") == ["c", "a"] and other.zcount(key("z"), 2, 3) == 2
    assert one.zadd(key("y"), {"b": 1, "d": 1}) == 2
    assert one.zunionstore(key("u"), [key("z"), key("y")]) == 4 and other.zscore(key("u"), "b") == 3.5
    assert one.zinter([key("z"), key("y")]) == ["b"] and other.zdiff([key("z"), key("y")]) == ["c", "a"]
    assert one.zrangestore(key("s"), key("z"), 0, 0) == 1 and other.zcard(key("s")) == 1
    (member, score), *rest = other.zpopmin(key("z"), 1) or [(None, None)]
    assert (member, float(score), rest) == ("b", 2.5, [])
    assert one.zmscore(key("z"), ["a", "none"]) == [11.0, None] and other.zrem(key("z"), "a", "c") == 2
    assert one.zmpop(2, [key("none"), key("y")], min=True)[0] == key("y")


@check
def lists(one, other, key):
    assert one.rpush(key("l"), "b", "c") == 2 and other.lpush(key("l"), "a") == 3
    assert one.lrange(key("l"), 0, -1) == ["a", "b", "c"] and other.llen(key("l")) == 3 and one.lindex(key("l"), -1) == "c"
    assert one.linsert(key("l"), "BEFORE", "b", "x") == 4 and other.lpos(key("l"), "x") == 1
    assert one.lset(key("l"), 1, "y") in (True, "OK") and other.lrem(key("l"), 0, "y") == 1
    assert one.lmove(key("l"), key("m"), "LEFT", "RIGHT") == "a" and other.lrange(key("m"), 0, -1) == ["a"]
    assert one.rpoplpush(key("l"), key("m")) == "c" and other.lrange(key("m"), 0, -1) == ["c", "a"]
    assert one.lmpop(2, key("none"), key("m"), direction="LEFT", count=2) == [key("m"), ["c", "a"]]
    assert other.ltrim(key("l"), 1, 0) in (True, "OK") and one.exists(key("l")) == 0
    assert one.rpush(key("n"), "3", "1", "2") == 3 and other.sort(key("n"), desc=True) == ["3", "2", "1"]
    assert one.sort(key("n"), store=key("sorted")) == 3 and other.lrange(key("sorted"), 0, -1) == ["1", "2", "3"]


@check
def hyperloglogs_and_places(one, other, key):
    assert one.pfadd(key("p"), "a", "b") == 1 and other.pfadd(key("q"), "c") == 1
    assert one.pfcount(key("p"), key("q")) == 3 and one.pfmerge(key("r"), key("p"), key("q")) is True and other.pfcount(key("r")) == 3
    assert one.geoadd(key("g"), (13.361389, 38.115556, "Palermo", 15.087269, 37.502669, "Catania")) == 2
    assert abs(other.geodist(key("g"), "Palermo", "Catania", "km") - 166.2742) < 0.0001
    assert one.geosearch(key("g"), longitude=15, latitude=37, radius=100, unit="km") == ["Catania"]
    assert other.geohash(key("g"), "Palermo") == ["sqc8b49rny0"]


@check
def keys_of_any_type(one, other, key):
    one.set(key("a"), "1")
    assert one.rename(key("a"), key("b")) is True and other.get(key("b")) == "1" and other.exists(key("a")) == 0
    assert one.copy(key("b"), key("c")) is True and other.get(key("c")) == "1"
    assert one.renamenx(key("b"), key("c")) is False
    assert other.expire(key("c"), 50, nx=True) is True and one.persist(key("c")) is True and other.ttl(key("c")) == -1
    assert one.type(key("c")) == "string" and one.object("encoding", key("c")) == "int" and other.touch(key("c"), key("d")) == 1
    assert one.pexpire(key("c"), 20) is True
    eventually(lambda: other.get(key("c")) is None)


@check
def scanning(one, other, key):
    for number in range(250):
        one.set(key(f"scan:{number}"), number)
    one.sadd(key("scan:set"), "member")
    found = set(other.scan_iter(match=key("scan:*"), count=20))
    assert found == {key(f"scan:{number}") for number in range(250)} | {key("scan:set")}
    assert set(one.scan_iter(match=key("scan:*"), _type="set")) == {key("scan:set")}
    one.hset(key("h"), mapping={f"f{number}": number for number in range(700)})
    assert dict(other.hscan_iter(key("h"), count=50)) == {f"f{number}": str(number) for number in range(700)}
    one.sadd(key("s"), *range(700))
    assert set(other.sscan_iter(key("s"))) == {str(number) for number in range(700)}
    one.zadd(key("z"), {f"m{number}": number for number in range(700)})
    assert {member: float(score) for member, score in other.zscan_iter(key("z"))} == {f"m{number}": float(number) for number in range(700)}
    assert set(other.hscan_iter(key("h"), match="f1?")) == {(f"f1{digit}", f"1{digit}") for digit in range(10)}


@check
def pipelines_and_transactions(one, other, key):
    with one.pipeline(transaction=False) as pipeline:
        for number in range(1000):
            pipeline.incrby(key("sum"), number)
        assert pipeline.execute()[-1] == 499500
    with other.pipeline() as pipeline:
        assert pipeline.set(key("a"), 1).incr(key("a")).get(key("a")).execute() == [True, 2, "2"]
    with other.pipeline() as pipeline:
        pipeline.set(key("a"), "text").incr(key("a")).get(key("a"))
        replies = pipeline.execute(raise_on_error=False)
        assert replies[0] is True and isinstance(replies[1], redis.ResponseError) and replies[2] == "text"


@check
def watched_keys(one, other, key):
    one.set(key("n"), 1)
    with one.pipeline() as pipeline:
        pipeline.watch(key("n"))
        other.set(key("n"), 5)
        pipeline.multi()
        pipeline.set(key("n"), 100)
        try:
            pipeline.execute()
            raise AssertionError("a watched key had changed")
        except redis.WatchError:
            pass
    assert other.get(key("n")) == "5"

    def double(pipeline):
        current = int(pipeline.get(key("n")))
        pipeline.multi()
        pipeline.set(key("n"), current * 2)

    one.transaction(double, key("n"))
    assert other.get(key("n")) == "10"


@check
def messages(one, other, key):
    subscriber = other.pubsub()
    subscriber.subscribe(key("news"))
    subscriber.psubscribe(key("n?ws*"))
    eventually(lambda: (subscriber.get_message(timeout=1) or {}).get("type") == "psubscribe")
    eventually(lambda: one.publish(key("news"), "hello") == 2)
    got = []
    while len(got) < 2:
        message = subscriber.get_message(timeout=5)
        assert message is not None, "a message is missing"
        got.append((message["type"], message["pattern"], message["channel"], message["data"]))
    assert sorted(got, key=str) == sorted(
        [("message", None, key("news"), "hello"), ("pmessage", key("n?ws*"), key("news"), "hello")], key=str
    )
    assert other.pubsub_numsub(key("news")) == [(key("news"), 1)]
    for number in range(100):
        one.publish(key("news"), number)
    order = []
    while len(order) < 100:
        message = subscriber.get_message(timeout=5)
        assert message is not None, "a message is missing"
        order += [int(message["data"])] if message["type"] == "message" else []
    assert order == list(range(100))
    subscriber.unsubscribe()
    subscriber.punsubscribe()
    subscriber.close()
    eventually(lambda: one.publish(key("news"), "nobody") == 0)


@check
def blocking_pops(one, other, key):
    def later(function, *arguments):
        threading.Timer(0.2, function, arguments).start()

    later(other.rpush, key("q"), "job")
    assert one.blpop([key("none"), key("q")], timeout=5) in ((key("q"), "job"), [key("q"), "job"])
    later(other.rpush, key("q"), "a", "b")
    assert one.brpop(key("q"), timeout=5) in ((key("q"), "b"), [key("q"), "b"])
    assert one.blpop(key("q"), timeout=5) in ((key("q"), "a"), [key("q"), "a"])
    begun = time.monotonic()
    assert one.blpop(key("q"), timeout=0.3) is None and 0.25 < time.monotonic() - begun < 2
    later(other.lpush, key("from"), "x")
    assert one.blmove(key("from"), key("to"), 5, "LEFT", "RIGHT") == "x" and other.lrange(key("to"), 0, -1) == ["x"]
    assert one.brpoplpush(key("to"), key("back"), timeout=5) == "x" and other.lrange(key("back"), 0, -1) == ["x"]
    later(other.zadd, key("z"), {"m": 3})
    popped = one.bzpopmin(key("z"), timeout=5)
    assert (popped[0], popped[1], float(popped[2])) == (key("z"), "m", 3.0)
    later(other.rpush, key("mpop"), "1", "2")
    assert one.blmpop(5, 1, key("mpop"), direction="RIGHT", count=2) == [key("mpop"), ["2", "1"]]
    with ThreadPoolExecutor(8) as pool:
        waiting = [pool.submit(one.blpop, key("many"), 10) for _ in range(8)]
        time.sleep(0.3)
        other.rpush(key("many"), *range(8))
        assert sorted(future.result()[1] for future in waiting) == [str(number) for number in range(8)]


@check
def fields_expire(one, other, key):
    if not is_ringtide(one):
        return
    one.hset(key("h"), mapping={"a": "1", "b": "2"})
    assert one.hexpire(key("h"), 100, "a", "none") == [1, -2] and 0 < other.httl(key("h"), "a")[0] <= 100
    assert other.hpersist(key("h"), "a") == [1] and one.httl(key("h"), "a", "b") == [-1, -1]
    assert one.hpexpire(key("h"), 20, "a") == [1]
    eventually(lambda: other.hgetall(key("h")) == {"b": "2"})


@check
def what_dashboards_read(one, other, key):
    information = one.info()
    for field in ("redis_version", "uptime_in_seconds", "connected_clients", "used_memory", "total_commands_processed", "role"):
        assert field in information, f"INFO has no {field}"
    assert one.client_setname("tester") is True and one.client_getname() == "tester"
    assert any(client["name"] == "tester" for client in one.client_list())
    assert one.client_info()["id"] == one.client_id()
    assert one.config_get("maxclients")["maxclients"] and one.ping() is True and one.echo("x") == "x"
    assert one.dbsize() > 0 and one.time()[0] > 1_600_000_000 and one.command_count() > 150
    assert "get" in one.command() and one.lastsave() is not None


@check
def errors_are_those_of_redis(one, other, key):
    one.set(key("s"), "text")
    wrong = {
        "WRONGTYPE Operation against a key holding the wrong kind of value": ("LPUSH", key("s"), 1),
        "value is not an integer or out of range": ("INCR", key("s")),
        "wrong number of arguments for 'get' command": ("GET",),
        "unknown command 'NOSUCH'": ("NOSUCH", "a"),
    }
    if is_ringtide(one):
        wrong["unknown command 'EVAL'"] = ("EVAL", "return 1", 0)
    for text, command in wrong.items():
        try:
            reply = other.execute_command(*command)
        except redis.ResponseError as error:
            assert text in str(error) or text.removeprefix("WRONGTYPE ") in str(error), str(error)
        else:
            raise AssertionError(f"{command} was answered with {reply}")


def main():
    failures = 0
    for protocol in (None, 2, 3):
        settings = {} if protocol is None else {"protocol": protocol}
        one, other = (redis.Redis(port=port, decode_responses=True, **settings) for port in (PORTS[0], PORTS[-1]))
        for function in CHECKS:
            name = f"{function.__name__} with {'its own' if protocol is None else protocol} protocol"
            try:
                function(one, other, lambda suffix, start=f"{RUN}:{protocol}:{function.__name__}:": start + suffix)
            except Exception as error:  # every check is told, whatever the others did
                failures += 1
                line = error.__traceback__
                while line.tb_next and line.tb_next.tb_frame.f_code.co_filename == __file__:
                    line = line.tb_next
                print(f"FAILED {name}, line {line.tb_lineno}: {type(error).__name__} {error}")
    print(f"redis-py {redis.__version__}: {3 * len(CHECKS) - failures} passed, {failures} failed")
    sys.exit(failures > 0)


main()
