"""The stand-in notices requests and answers that do not conform to the published API."""

import pytest
import urllib3

from tests.kfp_stand_in.server import serving


@pytest.fixture
def server():
    with serving() as stand_in:
        yield stand_in


@pytest.mark.parametrize(
    ("method", "path", "body", "violation"),
    [
        ("POST", "/apis/v2beta1/experiments", {"display_name": "x", "colour": "red"}, "'colour' was unexpected"),
        ("POST", "/apis/v2beta1/experiments", {"display_name": 7}, "7 is not of type 'string'"),
        ("GET", "/apis/v2beta1/runs?page=2", None, "no parameter 'page'"),
        (
            "GET",
            '/apis/v2beta1/runs?filter={"predicates":[{"operation":"IS","key":"state"}]}',
            None,
            "'IS' is not one of",
        ),
        ("DELETE", "/apis/v2beta1/recurringruns/1?propagation_policy=GENTLY", None, "is 'GENTLY'"),
        ("GET", "/apis/v2beta1/pipeline", None, "no operation GET /apis/v2beta1/pipeline"),
    ],
)
def test_a_request_that_does_not_fit(server, method, path, body, violation):
    urllib3.request(method, server.url + path, json=body)
    assert any(violation in sentence for sentence in server.violations)


def test_an_answer_that_does_not_fit(server):
    run = server.state.add_run(state="DONE")
    urllib3.request("GET", f"{server.url}/apis/v2beta1/runs/{run['run_id']}")
    assert any("'DONE' is not one of" in sentence for sentence in server.violations)


def test_what_fits_is_no_violation(server):
    urllib3.request("POST", f"{server.url}/apis/v2beta1/experiments", json={"display_name": "x"})
    urllib3.request("GET", f"{server.url}/apis/v2beta1/experiments?page_size=10")
    assert server.violations == []
