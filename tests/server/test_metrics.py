"""What /metrics tells."""

import pytest
from prometheus_client.parser import text_string_to_metric_families
from server_api import Api

pytestmark = pytest.mark.anyio


async def samples(api: Api) -> dict[str, float]:
    response = await api.client.get("/metrics")
    assert response.status_code == 200 and response.headers["content-type"].startswith("text/plain")
    return {
        sample.name + "".join(f",{key}={value}" for key, value in sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(response.text)
        for sample in family.samples
    }


async def test_requests_answers_and_times(api: Api) -> None:
    await api.complete(max_tokens=3, n=2)
    api.say("Hi")
    await api.chat(stream=True)
    await api.complete(model="other")
    await api.client.get("/nowhere/special")
    got = await samples(api)
    assert got["penstock_http_responses_total,route=/v1/completions,status=200"] == 1
    assert got["penstock_http_responses_total,route=/v1/completions,status=404"] == 1
    assert got["penstock_http_responses_total,route=/v1/chat/completions,status=200"] == 1
    assert got["penstock_http_responses_total,route=unknown,status=404"] == 1
    assert (got["penstock_answers_total,finish_reason=length"], got["penstock_answers_total,finish_reason=stop"]) == (
        2,
        1,
    )
    assert got["penstock_time_to_first_token_seconds_count"] == 3
    num_tokens = 6 + len(api.encode("Hi")) + 1
    assert got["penstock_inter_token_latency_seconds_count"] == num_tokens - 3
    assert got["penstock_time_per_output_token_seconds_count"] == 3
    assert got["penstock_request_duration_seconds_count"] == 2
    assert got["penstock_http_in_flight"] == 1  # this one
    assert got["penstock_api_workers"] == 1


async def test_the_engines_report(api: Api) -> None:
    got = await samples(api)
    assert got["penstock_engine_up"] == 1
    assert got["penstock_engine_requests_running"] == 2
    assert (got["penstock_engine_kv_blocks"], got["penstock_engine_kv_blocks_in_use"]) == (64, 3)
    assert got["penstock_engine_prompt_tokens_total"] == 7
    counters = ("steps", "preemptions", "generated_tokens", "prefix_query_tokens", "prefix_hit_tokens")
    assert all(f"penstock_engine_{name}_total" in got for name in counters)
    assert {"penstock_engine_requests_waiting", "penstock_engine_last_step_seconds"} <= got.keys()
    api.engine.failure = "a fault"
    assert (await samples(api))["penstock_engine_up"] == 0
