"""`ServerContext`: what the routes work with. Made once at start; nothing in the server is global."""

import hashlib
import time
from dataclasses import dataclass, field
from pathlib import Path

from penstock_decoding.catalogue import SHIPPED, Catalogue
from penstock_engine.client_protocol import EngineClient
from penstock_engine.config import EngineInfo
from penstock_server.life import Life
from penstock_server.metrics import Metrics
from penstock_server.model import ServedModel
from penstock_server.settings import ServerConfig
from penstock_server.shared import Alone, Shared


@dataclass(frozen=True, slots=True)
class ServerContext:
    """One server: its engine, its model's text side, its settings, its state.

    Attributes:
        fingerprint: OpenAI's `system_fingerprint`: the same as long as the model and the way it is computed are.
        created: start of the server, unix time; what /v1/models gives.
        catalogue: the processors and strategies that requests can name.
        keys: any of them opens every route; none: no key is asked for.
        shared: what this process has in common with others that answer for the same server.
    """

    client: EngineClient
    model: ServedModel
    config: ServerConfig
    life: Life
    metrics: Metrics
    fingerprint: str
    created: int = field(default_factory=lambda: int(time.time()))
    catalogue: Catalogue = SHIPPED
    keys: tuple[str, ...] = ()
    shared: Shared = field(default_factory=Alone)

    @classmethod
    def make(
        cls,
        client: EngineClient,
        model: ServedModel,
        config: ServerConfig,
        catalogue: Catalogue = SHIPPED,
        keys: tuple[str, ...] = (),
    ) -> "ServerContext":
        """The context of a server that is about to start."""
        fingerprint = _fingerprint(client.info)
        return cls(client, model, config, Life(), Metrics(client), fingerprint, catalogue=catalogue, keys=keys)


def _fingerprint(info: EngineInfo) -> str:
    # Of the folder only its name, which for a hub snapshot is its commit: where it lies changes no answer.
    name = Path(info.model).name
    computes = (info.dtype, info.weights, info.kv_cache_dtype, info.device, info.kernels, info.threads)
    decided = (name, info.architecture, info.num_parameters, *computes)
    return "fp_" + hashlib.sha256(repr(decided).encode()).hexdigest()[:12]
