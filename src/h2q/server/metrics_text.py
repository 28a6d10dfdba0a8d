"""`/metrics`: what was counted, as Prometheus reads it, under names that dashboards know."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)

from h2q.server.metrics import Histogram, Metrics

if TYPE_CHECKING:
    from h2q.core.cards import RunningModel
    from h2q.runtime.worker import WorkerState

MODEL = ["model_name"]


def metrics_text(
    metrics: Metrics, states: dict[str, WorkerState], running: Iterable[RunningModel]
) -> bytes:
    """The page. `states` are those of running models that answered in time."""
    registry = CollectorRegistry()
    registry.register(_Page(metrics, states, running))
    return generate_latest(registry)


class _Page:
    def __init__(
        self, metrics: Metrics, states: dict[str, WorkerState], running: Iterable[RunningModel]
    ) -> None:
        self._metrics, self._states, self._running = metrics, states, list(running)

    def collect(self) -> Iterator[Metric]:
        yield from self._gauges()
        yield from self._counters()
        yield from self._histograms()

    def _gauges(self) -> Iterator[Metric]:
        models = self._metrics.models
        yield _gauge(
            "num_requests_running",
            "Requests that get tokens.",
            {name: s.running for name, s in models.items()},
        )
        yield _gauge(
            "num_requests_waiting",
            "Requests without a token yet.",
            {name: s.waiting for name, s in models.items()},
        )
        states = self._states
        yield _gauge(
            "kv_cache_usage_perc",
            "Used share of the cache of keys and values, 0 to 1.",
            {n: s.cache / s.cache_capacity if s.cache_capacity else 0 for n, s in states.items()},
        )
        yield _gauge(
            "tier_planes_resident",
            "Coded planes that take part.",
            {model.card.name: model.planes for model in self._running},
        )
        yield _gauge(
            "tier_planes_total",
            "Coded planes of the crystal.",
            {model.card.name: model.all_planes for model in self._running},
        )
        resident = GaugeMetricFamily(
            "bytes_resident", "Memory in use, by what for.", labels=[*MODEL, "kind"]
        )
        for name, state in states.items():
            for kind, value in (
                ("weights", state.weights),
                ("kv", state.cache),
                ("scratch", state.scratch),
            ):
                resident.add_metric([name, kind], value)
        yield resident
        yield _gauge(
            "memory_budget_bytes",
            "Memory a model has promised to stay within; 0: no promise.",
            {model.card.name: model.budget for model in self._running},
        )
        yield _gauge(
            "pressure_level",
            "How scarce memory is, 0 to 3.",
            {name: state.pressure for name, state in states.items()},
        )

    def _counters(self) -> Iterator[Metric]:
        models = self._metrics.models
        yield _counter(
            "prompt_tokens",
            "Tokens of prompts.",
            {name: s.prompt_tokens for name, s in models.items()},
        )
        yield _counter(
            "generation_tokens",
            "Tokens that were generated.",
            {name: s.tokens for name, s in models.items()},
        )
        success = CounterMetricFamily(
            "request_success", "Requests that ended, by why.", labels=[*MODEL, "finished_reason"]
        )
        for name, series in models.items():
            for reason, count in series.finished.items():
                success.add_metric([name, reason], count)
        yield success
        yield _counter(
            "prefix_cache_hits",
            "Prompts that began with saved keys and values.",
            {name: state.prefix_hits for name, state in self._states.items()},
        )
        yield _counter(
            "budget_rejections",
            "Requests refused for lack of memory or room.",
            {name: s.refused for name, s in models.items()},
        )
        for counter, label, words in (
            ("evictions", "reason", "Models let go."),
            ("swap", "result", "Hot updates."),
            ("guard_verdicts", "verdict", "What the guard decided."),
        ):
            family = CounterMetricFamily(counter, words, labels=[*MODEL, label])
            for name, series in models.items():
                for value, count in series.counted.get(counter, {}).items():
                    family.add_metric([name, value], count)
            yield family
        yield _counter(
            "worker_restarts",
            "Workers started again after they died.",
            {
                name: sum(s.counted.get("worker_restarts", {}).values())
                for name, s in models.items()
            },
        )

    def _histograms(self) -> Iterator[Metric]:
        for name, words, field in (
            ("time_to_first_token_seconds", "From arrival to the first token.", "first_token"),
            ("inter_token_latency_seconds", "From one token to the next.", "inter_token"),
            ("e2e_request_latency_seconds", "From arrival to the end.", "whole"),
            ("request_queue_time_seconds", "From arrival until the model was there.", "queue"),
        ):
            family = HistogramMetricFamily(name, words, labels=MODEL)
            for model, series in self._metrics.models.items():
                _add(family, [model], getattr(series, field))
            yield family
        cold = HistogramMetricFamily(
            "cold_start_seconds", "From the start of a worker to a phase.", labels=[*MODEL, "phase"]
        )
        for model, series in self._metrics.models.items():
            for phase, histogram in series.cold.items():
                _add(cold, [model, phase], histogram)
        yield cold


def _gauge(name: str, words: str, values: dict[str, float]) -> Metric:
    family = GaugeMetricFamily(name, words, labels=MODEL)
    for model, value in values.items():
        family.add_metric([model], value)
    return family


def _counter(name: str, words: str, values: dict[str, float]) -> Metric:
    family = CounterMetricFamily(name, words, labels=MODEL)
    for model, value in values.items():
        family.add_metric([model], value)
    return family


def _add(family: HistogramMetricFamily, labels: list[str], histogram: Histogram) -> None:
    total, buckets = 0, list[tuple[str, float]]()
    for bound, count in zip([*histogram.bounds, "+Inf"], histogram.counts, strict=True):
        total += count
        buckets.append((str(bound), total))
    family.add_metric(labels, buckets, sum_value=histogram.total)
