"""The description of the API for people, made from that for programs."""

from html import escape
from typing import Any

_EXAMPLES = """curl -T photo.jpg 'http://127.0.0.1:8000/v1/upscale?scale=2&wait=1' -o photo_2x.jpg
curl -T photo.jpg 'http://127.0.0.1:8000/v1/upscale?width=1920&model=esc-light-real&format=png'
curl http://127.0.0.1:8000/v1/jobs/ID
curl http://127.0.0.1:8000/v1/jobs/ID/result -o photo_1920px.png"""


def describe(openapi: dict[str, Any]) -> str:
    """HTML without scripts of an OpenAPI document."""
    about = openapi["info"]
    parts = [
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>esc-sr API</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<link rel="icon" href="/icon.svg"><link rel="stylesheet" href="/style.css"></head>'
        f'<body class="api"><main><h1>{escape(about["title"])} {escape(about["version"])}: API</h1>',
        f'<p>{escape(about["description"])} <a href="/openapi.json">openapi.json</a> has all of this for '
        'programs; <a href="/">the page</a> uses nothing else. Where the server has been started with '
        "<code>--host</code>, every request below <code>/v1</code> needs a header "
        "<code>Authorization: Bearer TOKEN</code>.</p>",
        f'<pre tabindex="0" aria-label="Examples">{escape(_EXAMPLES)}</pre>',
    ]
    for path, operations in openapi["paths"].items():
        for method, operation in operations.items():
            parts.append(_operation(f"{method.upper()} {path}", operation))
    return "".join(parts) + "</main></body></html>"


def _operation(title: str, operation: dict[str, Any]) -> str:
    """One address: what it does, takes and answers."""
    taken = "".join(
        f"<dt><code>{escape(parameter['name'])}</code></dt><dd>{escape(_about(parameter))}</dd>"
        for parameter in operation.get("parameters", ())
    )
    answers = "".join(
        f"<dt>{escape(status)}</dt><dd>{escape(answer['description'])}</dd>"
        for status, answer in sorted(operation["responses"].items())
    )
    return (
        f"<section><h2><code>{escape(title)}</code></h2><p>{escape(operation['summary'])}. "
        f"{escape(operation.get('description', ''))}</p>"
        f"{f'<h3>Takes</h3><dl>{taken}</dl>' if taken else ''}<h3>Answers</h3><dl>{answers}</dl></section>"
    )


def _about(parameter: dict[str, Any]) -> str:
    """What a parameter is: its type, and what is said of it."""
    schema = parameter["schema"]
    kinds = [kind["type"] for kind in schema.get("anyOf", [schema]) if kind.get("type") not in (None, "null")]
    told = parameter.get("description", "")
    return f"{' or '.join(kinds)}{', required' if parameter.get('required') else ''}. {told}".strip()
