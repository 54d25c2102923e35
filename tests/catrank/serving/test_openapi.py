"""Requests that schemathesis makes from the OpenAPI document get the replies that it promises."""

import pytest

EXAMPLES = 30

pytestmark = pytest.mark.slow  # dozens of requests


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/v1/health"), ("GET", "/v1/model"), ("POST", "/v1/segment")]
)
def test_replies_are_as_promised(server, method, path):
    library = pytest.importorskip("schemathesis", reason="schemathesis is not installed")
    from hypothesis import HealthCheck, given, settings
    from schemathesis.specs.openapi.checks import positive_data_acceptance

    operation = library.openapi.from_url(f"{server}/v1/openapi.json")[path][method]

    @given(operation.as_strategy())
    @settings(
        max_examples=EXAMPLES,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=[*HealthCheck],
    )
    def check(case):
        # Bytes that fit the schema are rarely an image, and then the reply is an error.
        case.call_and_validate(excluded_checks=[positive_data_acceptance])

    check()
