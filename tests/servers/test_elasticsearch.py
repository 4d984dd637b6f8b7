import gzip
import json
import unittest

from elasticsearch import Elasticsearch, helpers

from testing import Case

NDJSON = {"Content-Type": "application/x-ndjson"}


def bulk(numbers, action="index", **meta):
    lines = [json.dumps(line, ensure_ascii=False) for n in numbers for line in ({action: meta}, {"seq": n, "content": "é %d" % n})]
    return ("\n".join(lines) + "\n").encode()


class Bulk(Case):
    kind = "elasticsearch"

    def numbers(self, server):
        return [event["fields"]["seq"] for event in server.events()]

    def send(self, server, body, path="/_bulk", headers=NDJSON):
        status, answer = server.send(path, body, headers)
        answer = json.loads(answer)
        if status != 200:
            return status, answer["error"]["type"]
        results = [result for item in answer["items"] for result in item.values()]
        self.assertEqual(answer["errors"], any("error" in result for result in results))
        return [(result["status"], result.get("error", {}).get("type")) for result in results]

    def test_each_form_is_stored_in_its_order(self):
        server = self.server()
        self.assertEqual(self.send(server, bulk([0, 1], _index="a")), [(201, None)] * 2)
        self.assertEqual(self.send(server, bulk([2], "create"), "/b/_bulk"), [(201, None)])
        zipped = dict(NDJSON, **{"Content-Encoding": "gzip"})
        self.assertEqual(self.send(server, gzip.compress(bulk([3], _index="c")), "/b/_bulk", zipped), [(201, None)])
        self.assertEqual((self.numbers(server), server.errors()), ([0, 1, 2, 3], []))
        self.assertEqual([event["to"]["index"] for event in server.events()], ["a", "a", "b", "c"])
        self.assertEqual(server.events()[0]["fields"], {"seq": 0, "content": "é 0"})
        self.assertEqual([request["events"] for request in server.requests()], [2, 1, 1])

    def test_a_request_that_is_malformed_is_refused_whole_and_recorded(self):
        server = self.server()
        good = bulk([1], _index="a")
        cases = [
            (good[:-1], "illegal_argument_exception"),
            (good + b'{"index":{"_index":"a"}}\n', "illegal_argument_exception"),
            (good + b"\n", "illegal_argument_exception"),
            (b'{"seq":1}\n{"seq":2}\n', "illegal_argument_exception"),
            (b'{"delete":{"_index":"a","_id":"1"}}\n{}\n', "illegal_argument_exception"),
            (b'{"index":{"_index":"a","_type":"doc"}}\n{}\n', "illegal_argument_exception"),
            (b'{"index":{},"create":{}}\n{}\n', "illegal_argument_exception"),
            (bulk([1]), "action_request_validation_exception"),
            (b"", "parse_exception"),
            (good.replace(b"\xc3", b"\xff"), "parse_exception"),
        ]
        for body, kind in cases:
            self.assertEqual(self.send(server, body), (400, kind), body)
        self.assertEqual(self.send(server, good, headers={"Content-Type": "text/plain"})[0], 406)
        self.assertEqual(self.send(server, good, "/a/_search")[0], 405)
        self.assertEqual(len(server.errors()), len(cases) + 2)
        self.assertEqual(server.events(), [])

    def test_an_item_that_is_bad_is_refused_alone(self):
        server = self.server("--poison", "é 2", "--data-stream", "logs-a-b")
        items = bulk([1, 2, 3], _index="a")
        self.assertEqual(self.send(server, items), [(201, None), (400, "mapper_parsing_exception"), (201, None)])
        self.assertEqual(server.errors(), [])
        bad = bulk([4], _index="A") + b'{"index":{"_index":"a"}}\n{"x":1,"x":1}\n' + bulk([5], _index="logs-a-b")
        bad += bulk([6], "create", _index="logs-a-b") + bulk([7], _index="a")
        self.assertEqual(
            self.send(server, bad),
            [
                (400, "invalid_index_name_exception"),
                (400, "document_parsing_exception"),
                (400, "illegal_argument_exception"),
                (400, "document_parsing_exception"),
                (201, None),
            ],
        )
        self.assertEqual((self.numbers(server), len(server.errors())), ([1, 3, 7], 4))

    def test_ids_make_a_document_once(self):
        server = self.server()
        once = bulk([1], "create", _index="a", _id="x")
        self.assertEqual(self.send(server, once), [(201, None)])
        self.assertEqual(self.send(server, once), [(409, "version_conflict_engine_exception")])
        server.close()
        server.start()
        self.assertEqual(self.send(server, once), [(409, "version_conflict_engine_exception")])
        self.assertEqual(self.send(server, bulk([2], _index="a", _id="x")), [(200, None)])
        self.assertEqual((self.numbers(server), server.errors()), ([1, 2], []))
        self.assertEqual(server.events()[0]["to"], {"index": "a", "id": "x"})

    def test_who_is_busy_says_so_for_items_and_for_requests(self):
        server = self.server("--fail", "429:1", "--busy-items", "2")
        self.assertEqual(self.send(server, bulk([0], _index="a")), (429, "es_rejected_execution_exception"))
        statuses = [status for status, _ in self.send(server, bulk(range(6), _index="a"))]
        self.assertEqual(statuses, [201, 429, 201, 429, 201, 201])
        self.assertEqual((self.numbers(server), server.errors()), ([0, 2, 4, 5], []))

    def test_who_has_no_right_is_sent_away(self):
        server = self.server("--api-key", "abc")
        self.assertEqual(self.send(server, bulk([1], _index="a")), (401, "security_exception"))
        headers = dict(NDJSON, Authorization="ApiKey abc")
        self.assertEqual(self.send(server, bulk([1], _index="a"), headers=headers), [(201, None)])

    def test_the_vendors_client(self):
        server = self.server("--basic", "me:pass", "--poison", "é 7")
        client = Elasticsearch("http://127.0.0.1:%d" % server.port, basic_auth=("me", "pass"), http_compress=True)
        actions = [{"_op_type": "create", "_index": "a", "seq": n, "content": "é %d" % n} for n in range(10)]
        stored, errors = helpers.bulk(client, actions, raise_on_error=False)
        client.close()
        self.assertEqual((stored, [error["create"]["error"]["type"] for error in errors]), (9, ["mapper_parsing_exception"]))
        self.assertEqual((self.numbers(server), server.errors()), ([0, 1, 2, 3, 4, 5, 6, 8, 9], []))


if __name__ == "__main__":
    unittest.main()
