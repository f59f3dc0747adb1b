"""Long questions tell of their progress, and quick ones do not."""

import logging

import pandas as pd
import pytest

from jointebm import JointEBM
from jointebm.tables.answers import answer_progress
from jointebm.tables.answers.answer_progress import AnswerProgress, AnswerWatch

TABLE = pd.DataFrame({"a": [0, 1] * 20, "b": [0, 1] * 20})


def test_parts_cover_all_rows_once_and_none_are_one_part() -> None:
    parts = list(AnswerWatch().parts("score", 600))
    assert [row for part in parts for row in range(600)[part]] == list(range(600))
    assert list(AnswerWatch().parts("score", 0)) == [slice(0, 0)]


def test_a_word_every_two_seconds_and_one_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(answer_progress.time, "monotonic", lambda: now[0])
    told: list[AnswerProgress] = []
    for _ in AnswerWatch(told.append).parts("score", 5 * 256):
        now[0] += 1.5
    assert [(each.num_done, each.seconds) for each in told] == [(512, 3.0), (1024, 6.0), (1280, 7.5)]
    told.clear()
    for _ in AnswerWatch(told.append).parts("score", 256):
        now[0] += 1.5
    assert told == []


def test_a_watched_model_tells_and_the_original_does_not(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    model = JointEBM(training={"num_visits": 0, "rows_per_component": 10}, verbose=True).fit(TABLE)
    capsys.readouterr()
    monkeypatch.setattr(answer_progress, "SECONDS", 0.0)
    told: list[AnswerProgress] = []
    watched, holes = model.watched(told.append), TABLE.assign(b=None)
    with caplog.at_level(logging.INFO, logger="jointebm"):
        watched.predict(holes, "b")
        watched.score_samples(holes)
        watched.impute(holes)
        watched.sample(3)
    assert [(each.question, each.num_done, each.num_rows) for each in told] == [
        ("predict", 40, 40),
        ("score_samples", 40, 40),
        ("impute", 40, 40),
        ("sample", 3, 3),
    ]
    assert "predict: 40 of 40 rows, 0 s left" in caplog.text
    assert "jointebm: predict: 40 of 40 rows, 0 s left\n" in capsys.readouterr().err
    model.predict(holes, "b")
    assert len(told) == 4
