"""The service: its answers are those of the model, and whatever is posted is answered within the limits."""

import json
import random
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from starlette.testclient import TestClient

from jointebm import JointEBM, load
from jointebm.watch.arrow_bodies import ARROW
from jointebm.watch.limits import Limits
from jointebm.watch.opened_models import OpenedModel, open_watched
from support.pet_table import MODELLED, TABLE
from support.watched import ORIGIN, TOKEN, ask, client_of

POINTS = {"point": [[-3.0, 0.0], [3.0, None]], "bottom": [1, None]}
ROWS = {"size": [10.1, None, 31.0], "income": [None, ">50K", None], "count": [1, None, 12]}


def arrow(table: pa.Table, **options: Any) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


def post_arrow(client: TestClient, question: str, body: bytes, **parameters: Any) -> Any:
    return client.post(
        f"/{TOKEN}/{question}",
        params={"parameters": json.dumps(parameters)},
        content=body,
        headers={**ORIGIN, "content-type": ARROW, "accept": ARROW},
    )


def read(body: bytes) -> pa.Table:
    return pa.ipc.open_stream(body).read_all()


def test_samples_are_those_of_the_model(toy_client: TestClient, toy: OpenedModel) -> None:
    fields = {"num": 5, "given": {"left": 1, "point": [None, {"low": 0.0, "high": None}]}, "seed": 3, "num_steps": 2}
    answer = ask(toy_client, "sample", fields)
    given = {"left": 1, "point": [np.nan, (0.0, None)]}
    expected, quality = toy.model.sample(5, given, 3, num_steps=2, diagnostics=True)
    assert answer.status_code == 200
    assert answer.json()["values"] == {name: value.tolist() for name, value in expected.items()}
    found = answer.json()["diagnostics"]
    assert found["ess"] == quality.ess.tolist() and found["accept_rate"] == quality.accept_rate


def test_predictions_imputations_and_scores_are_those_of_the_model(toy_client: TestClient, toy: OpenedModel) -> None:
    values = {"point": np.array(POINTS["point"], dtype=float), "bottom": np.array([1, -1])}
    found = ask(toy_client, "predict", {"values": POINTS, "target": ["left", "diagonal"]}).json()
    expected = toy.model.predict(values, ["left", "diagonal"])
    assert found["values"]["left"] == expected.labels["left"].tolist()
    assert np.allclose(found["probs"]["diagonal"], expected.probs["diagonal"])
    found = ask(toy_client, "impute", {"values": POINTS, "num": 2, "seed": 4, "num_steps": 3}).json()
    draws = toy.model.impute(values, 2, 4, num_steps=3)
    assert [draw["point"] for draw in found["draws"]] == [draw["point"].tolist() for draw in draws]
    found = ask(toy_client, "score", {"values": POINTS}).json()
    assert np.allclose(found["values"]["log_density"], toy.model.log_density(values))


def test_a_model_without_a_reference_predicts_as_its_reals_allow() -> None:
    opened = open_watched("pretrained:mnist")
    image = np.zeros((1, 28, 28))
    with client_of(opened) as client:
        found = ask(client, "predict", {"values": {"image": image.tolist()}, "target": "digit"}).json()
        assert found["method"] == "exact sum"
        assert abs(sum(found["probs"]["digit"][0]) - 1) < 1e-5
        image[0, :14] = np.nan
        half = [[[None if np.isnan(x) else x for x in row] for row in rows] for rows in image]
        found = ask(client, "predict", {"values": {"image": half}, "target": "digit"}).json()
        assert found["method"] == "Gibbs chains"
        refused = ask(client, "score", {"values": {"image": half}})
        assert refused.status_code == 422
        assert "not normalised" in refused.json()["error"]


def test_rows_of_a_table_are_those_of_the_model(pets_client: TestClient, pets: OpenedModel) -> None:
    model: JointEBM = pets.model
    given = {"income": [">50K"], "size": {"low": 20, "high": None}}
    found = ask(pets_client, "sample", {"num": 4, "given": given, "seed": 2, "first": 8}).json()["values"]
    expected = model.sample(4, given={"income": [">50K"], "size": (20, None)}, seed=2, first=8)
    for name in MODELLED:
        texts = [None if pd.isna(value) else value for value in expected[name]]
        assert [str(value) for value in found[name]] == [
            str(value)[:10] if name == "born" else str(value) for value in texts
        ]
    frame = pd.DataFrame(ROWS)
    found = ask(pets_client, "predict", {"rows": ROWS, "target": ["indoors", "size"]}).json()
    asked = model.predict_frame(frame, ["indoors", "size"])
    assert found["values"]["indoors"] == asked["indoors"].tolist()
    assert np.allclose(found["values"]["size"], asked["size"])
    assert np.allclose(found["probs"]["indoors"]["probs"], model.predict_proba(frame, "indoors"))
    found = ask(pets_client, "impute", {"rows": ROWS, "num": 2, "seed": 5}).json()["draws"]
    draws = model.draw_imputations(frame, 2, seed=5)
    assert [draw["size"] for draw in found] == [draw["size"].tolist() for draw in draws]
    found = ask(pets_client, "score", {"rows": ROWS, "conditional": True}).json()
    assert np.allclose(found["values"]["log_density"], model.score_samples(frame))
    assert np.allclose(found["values"]["dependence"], model.dependence(frame))
    scores = model.conditional_log_score(frame, "size")[:, 0]
    assert [value is None for value in found["conditional"]["size"]] == np.isnan(scores).tolist()
    known = {"born": {"low": "2020-02-01", "high": None}}
    found = ask(pets_client, "score", {"rows": ROWS, "given": known}).json()
    expected = model.score_samples(frame, given={"born": ("2020-02-01", None)})
    assert np.allclose(found["values"]["log_density"], expected)
    assert not np.allclose(expected, model.score_samples(frame))
    refused = ask(pets_client, "score", {"rows": ROWS, "given": known, "conditional": True})
    assert refused.status_code == 422
    assert "leave out given" in refused.json()["error"]


def test_the_score_of_a_row_that_breaks_a_relation_is_null() -> None:
    group = np.arange(300) % 10
    table = pd.DataFrame({"zip": [f"z{each}" for each in group], "city": [f"c{each // 5}" for each in group]})
    model = JointEBM(training={"num_visits": 0}, relations=["zip -> city"]).fit(table)
    with client_of(OpenedModel(model, "cities", None)) as client:
        answer = ask(client, "score", {"rows": {"zip": ["z1", "z1"], "city": ["c0", "c1"]}, "conditional": True})
    assert answer.status_code == 200
    found = answer.json()
    for scores in (found["values"]["log_density"], found["values"]["dependence"], found["conditional"]["zip"]):
        assert [score is None for score in scores] == [False, True]


def test_arrow_gives_what_json_gives(toy_client: TestClient, pets_client: TestClient) -> None:
    table = pa.table({name: pa.array(values) for name, values in ROWS.items()})
    for question, parameters in {"impute": {"seed": 5}, "score": {}, "predict": {"target": "city"}}.items():
        answer = post_arrow(pets_client, question, arrow(table), **parameters)
        assert answer.status_code == 200, answer.text
        found = ask(pets_client, question, {"rows": ROWS, **parameters}).json()
        expected = found["draws"][0] if question == "impute" else found["values"]
        assert read(answer.content).to_pydict() == expected
    blocks = pa.table({"point": pa.array(POINTS["point"]), "bottom": pa.array(POINTS["bottom"])})
    answer = post_arrow(toy_client, "predict", arrow(blocks), target="left")
    assert (
        read(answer.content).to_pydict()
        == ask(toy_client, "predict", {"values": POINTS, "target": "left"}).json()["values"]
    )
    metadata = json.loads(read(answer.content).schema.metadata[b"jointebm"])
    assert metadata["method"] == "draws of q"


@pytest.mark.parametrize("compression", ["lz4", "zstd"])
def test_a_compressed_stream_is_refused_before_it_is_unpacked(pets_client: TestClient, compression: str) -> None:
    bomb = pa.table({"size": pa.array(np.zeros(4_000_000))})
    assert len(arrow(bomb, compression=compression)) < 1_000_000
    answer = post_arrow(pets_client, "score", arrow(bomb, compression=compression))
    assert (answer.status_code, answer.json()["error"]) == (
        422,
        "Arrow: the stream is compressed; write it without compression",
    )
    levels = pa.table({"income": pa.array([">50K", "<=50K"] * 500).dictionary_encode()})
    assert post_arrow(pets_client, "score", arrow(levels, compression=compression)).status_code == 422
    assert post_arrow(pets_client, "score", arrow(levels)).status_code == 200


NUM = 2**31 - 1  # entries that take no bytes of their own
NULLS = pa.nulls(NUM)
TEXT = "x" * 2_000_000


@pytest.mark.parametrize(
    ("column", "reason"),
    [
        (NULLS, "2147483647 rows"),
        (pa.RunEndEncodedArray.from_arrays(pa.array([NUM]), pa.array([1.0])), "2147483647 rows"),
        (pa.RunEndEncodedArray.from_arrays(pa.array([3]), pa.array([1.0])), "holds run_end_encoded"),
        (pa.FixedSizeListArray.from_arrays(NULLS, NUM), "2147483648 entries"),
        (pa.ListArray.from_arrays(pa.array([0, NUM], pa.int32()), NULLS), "2147483648 entries"),
        (pa.StructArray.from_arrays([pa.nulls(1)], ["a"]), "holds struct"),
        (pa.array([TEXT, TEXT], pa.string_view()), "holds string_view"),
    ],
    ids=["nulls", "runs", "few runs", "one list", "offsets", "structs", "views"],
)
def test_a_stream_of_a_few_bytes_that_stands_for_gigabytes_is_refused(
    toy_client: TestClient, pets_client: TestClient, column: pa.Array, reason: str
) -> None:
    for client, name in ((toy_client, "point"), (pets_client, "income")):
        answer = post_arrow(client, "score", arrow(pa.table({name: column})))
        assert answer.status_code == 422
        assert reason in answer.json()["error"]


def test_a_block_takes_numbers_and_no_categories_of_long_texts(toy_client: TestClient) -> None:
    texts = pa.DictionaryArray.from_arrays(pa.array([0] * 9000, pa.int8()), pa.array([TEXT]))
    answer = post_arrow(toy_client, "score", arrow(pa.table({"left": texts})))
    assert answer.status_code == 422
    assert "block 'left' holds dictionary" in answer.json()["error"]


def hostile_bodies() -> list[bytes]:
    """100 bodies: wrong JSON, wrong fields, wrong values, and random ones."""
    texts = [
        *("", "{", "[", "null", "1", '"x"', "[]", "NaN", '{"num": NaN}', '{"num": Infinity}', "[" * 100_000, "{}x"),
        *(
            '{"a":' * 50_000,
            '{"num": -1}',
            '{"num": 0}',
            '{"num": 1.5}',
            '{"num": "3"}',
            '{"num": true}',
            '{"num": null}',
        ),
        *(
            '{"num": 99999999999999999999999}',
            '{"num": 1e400}',
            '{"seed": -1}',
            '{"seed": 1e3}',
            '{"seed": 9223372036854775808}',
        ),
        *('{"num_steps": 1000001}', '{"num_steps": -1}', '{"given": []}', '{"given": null}', '{"given": {"": 1}}'),
        *('{"given": {"left": 2}}', '{"given": {"left": -7}}', '{"given": {"left": 0.5}}', '{"given": {"left": "1"}}'),
        *(
            '{"given": {"left": []}}',
            '{"given": {"left": [1, 0]}}',
            '{"given": {"left": {}}}',
            '{"given": {"left": [[[[1]]]]}}',
        ),
        *(
            '{"given": {"left": {"classes": []}}}',
            '{"given": {"left": {"classes": [9]}}}',
            '{"given": {"left": {"classes": 1}}}',
        ),
        *('{"given": {"left": {"classes": [1.5]}}}', '{"given": {"left": {"low": 0, "high": 1}}}'),
        *('{"given": {"point": {"low": 1, "high": 0}}}', '{"given": {"point": [{"low": 1, "high": 0}, null]}}'),
        *('{"given": {"point": [{"low": "a", "high": 0}, null]}}', '{"given": {"point": [1e400, 0]}}'),
        *('{"given": {"point": [1, 2, 3]}}', '{"given": {"point": [[1, 2], [3]]}}', '{"given": {"point": "0, 0"}}'),
        *('{"given": {"point": true}}', '{"given": {"point": {"classes": [0]}}}', '{"given": {"__class__": 1}}'),
        *(
            '{"given": {"point": ["1", "2"]}}',
            '{"given": {"point": [1, {"low": 0}]}}',
            '{"unknown": 1}',
            '{"do": "step"}',
        ),
        *(
            '{"num": 10001}',
            '{"num": 1, "num": 20000}',
            '{"given": {"left": 1e19}}',
            '{"given": {"point": [null, 1e39]}}',
        ),
        *("\u0000", '{"\\u0000": 1}', '{"given": {"\\ud800": 1}}', '{"given": {"left": [null, null]}}', "\ufeff{}"),
        '{"given": {"left": ' + "[" * 900 + "1" + "]" * 900 + "}}",
        '{"given": {"left": [' + "1," * 200_000 + "1]}}",
    ]
    bodies = [text.encode("utf-8", "surrogatepass") for text in texts]
    bodies += [b"\xff\xfe\xfd", b"\x80abc", '{"num": 1}'.encode("utf-16"), b"\x1f\x8b\x08\x00" + bytes(50)]
    draws = random.Random(0)
    while len(bodies) < 100:
        bodies.append(bytes(draws.randrange(256) for _ in range(draws.randrange(1, 200))))
    return bodies[:100]


def test_a_hundred_hostile_bodies_are_each_refused_in_one_line(toy_client: TestClient) -> None:
    for body in hostile_bodies():
        answer = toy_client.post(
            f"/{TOKEN}/sample", content=body, headers={**ORIGIN, "content-type": "application/json"}
        )
        assert answer.status_code in (400, 422), (body[:80], answer.status_code, answer.text[:200])
        assert answer.json().keys() == {"error"}
        assert "\n" not in answer.json()["error"] and len(answer.json()["error"]) < 1100
    assert ask(toy_client, "sample", {"num": 1, "num_steps": 0}).status_code == 200  # and the next one is answered


def test_torn_arrow_streams_are_refused(pets_client: TestClient) -> None:
    body = arrow(pa.table({"size": [1.0, 2.0, 3.0], "income": [">50K", None, "<=50K"]}))
    draws = random.Random(0)
    for number in range(60):
        torn = bytearray(body[: draws.randrange(len(body))] if number % 2 else body)
        for _ in range(draws.randrange(1, 6) if torn else 0):
            torn[draws.randrange(len(torn))] = draws.randrange(256)
        answer = post_arrow(pets_client, "score", bytes(torn))
        assert answer.status_code in (200, 422), answer.text  # a byte of a value gives another value


@pytest.mark.parametrize(
    "media", ["", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "text/json"]
)
def test_other_media_are_refused(toy_client: TestClient, media: str) -> None:
    headers = {**ORIGIN, "content-type": media}
    assert toy_client.post(f"/{TOKEN}/sample", content=b"{}", headers=headers).status_code == 415


def test_limits_of_body_rows_steps_and_time(toy: OpenedModel) -> None:
    limits = Limits(body=2000, rows=10, steps=50, seconds=0.05)
    with client_of(toy, limits) as client:
        assert ask(client, "sample", {"given": {"left": [1] * 2000}}).status_code == 413
        chunks = (b"[" * 500 for _ in range(100_000))  # without a declared length
        headers = {**ORIGIN, "content-type": "application/json"}
        assert client.post(f"/{TOKEN}/sample", content=chunks, headers=headers).status_code == 413
        assert "10 at once" in ask(client, "sample", {"num": 11}).json()["error"]
        assert "10 at once" in ask(client, "impute", {"values": {"left": [1] * 6}, "num": 2}).json()["error"]
        assert "50 at most" in ask(client, "sample", {"num": 1, "num_steps": 51}).json()["error"]
    with client_of(toy, Limits(seconds=0.5)) as client:
        begin = time.monotonic()
        answer = ask(client, "sample", {"num": 2000, "num_steps": 10_000})
        assert (answer.status_code, time.monotonic() - begin < 60) == (504, True)
        assert "stopped after 0.5 s" in answer.json()["error"]


def test_a_table_stops_in_time_too(pets: OpenedModel) -> None:
    with client_of(pets, Limits(seconds=0.2)) as client:
        answer = ask(client, "sample", {"num": 10_000})
        assert answer.status_code == 504


def test_the_description_lists_every_question_with_its_fields(toy_client: TestClient, pets_client: TestClient) -> None:
    for client, rows in ((toy_client, "values"), (pets_client, "rows")):
        described = client.get(f"/{TOKEN}/openapi.json").json()
        assert described["openapi"] == "3.1.0"
        assert set(described["paths"]) == {"/sample", "/predict", "/impute", "/score"}
        for path, methods in described["paths"].items():
            schema = methods["post"]["requestBody"]["content"]["application/json"]["schema"]
            assert (rows in schema["properties"]) == (path != "/sample")
            assert schema["additionalProperties"] is False
            assert {"200", "413", "422", "503", "504"} <= methods["post"]["responses"].keys()
        assert client.get(f"/{TOKEN}/sample").status_code == 405


def test_a_model_that_is_loaded_again_answers_alike(pets_folder: Path, pets_client: TestClient) -> None:
    model = load(pets_folder)
    assert isinstance(model, JointEBM)
    found = ask(pets_client, "impute", {"rows": {"name": ["a", "b"], "size": [None, 30.0]}, "first": 3}).json()[
        "draws"
    ][0]
    expected = model.impute(pd.DataFrame({"name": ["a", "b"], "size": [None, 30.0]}), first=3)
    assert found == expected.to_dict("list")
    assert TABLE["size"].min() <= found["size"][0] <= TABLE["size"].max()
