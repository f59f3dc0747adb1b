"""`jointebm watch`: a page to clamp and watch a model, and its service."""

from pathlib import Path
from typing import Annotated

import typer

from jointebm.cli.options import ModelName, Threads, number_option

__all__ = ["watch"]


def watch(
    model: ModelName,
    *,
    data: Annotated[
        Path | None,
        typer.Option(
            "--data",
            metavar="PATH",
            envvar="JOINTEBM_DATA",
            exists=True,
            help="Data that chains may start at: of a model of blocks the folder of its data files, of a model of a table a "
            ".csv, .csv.gz or .parquet file.",
        ),
    ] = None,
    port: Annotated[int, number_option("--port", 0, 65535, "Port; 0 takes a free one.")] = 8719,
    host: Annotated[
        str, typer.Option("--host", metavar="ADDRESS", help="Address to bind; another than 127.0.0.1 needs --token.")
    ] = "127.0.0.1",
    name: Annotated[
        list[str] | None,
        typer.Option(
            "--name", metavar="NAME", help="A further name under which browsers reach this server. Repeatable."
        ),
    ] = None,
    token: Annotated[
        str | None,
        typer.Option(
            "--token",
            metavar="TEXT",
            envvar="JOINTEBM_TOKEN",
            help="Token that begins every address, 16 or more characters (default: a new one).",
        ),
    ] = None,
    max_sessions: Annotated[int, number_option("--max-sessions", 1, 1000, "Pages that may be open.")] = 8,
    max_rows: Annotated[int, number_option("--max-rows", 1, 10**9, "Rows of one answer.")] = 10_000,
    max_seconds: Annotated[int, number_option("--max-seconds", 1, 10**6, "Seconds for one question.")] = 30,
    max_body: Annotated[int, number_option("--max-body", 1024, 2**31, "Bytes of one request.")] = 8 << 20,
    threads: Threads = 1,  # noqa: ARG001  # its callback sets them
) -> None:
    """Open a page on which a model is clamped and watched, and answer questions over HTTP.

    Prints an address that a browser on this machine can open. The same address takes POST sample, predict, impute and score;
    GET openapi.json describes them. Ctrl-C ends it. Needs the extra 'watch'.
    """
    from jointebm.cli.watching import watch_model

    watch_model(
        model,
        data=data,
        host=host,
        port=port,
        names=name or [],
        token=token,
        limits={"sessions": max_sessions, "rows": max_rows, "seconds": float(max_seconds), "body": max_body},
    )
