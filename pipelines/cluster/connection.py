"""Connections to Ray clusters: whether the address answers, the token that it may require, and its versions."""

import contextlib
import logging
import os
import platform
import secrets
from collections.abc import Iterator
from pathlib import Path

import grpc
import ray
from ray._private import services
from ray._private.authentication import authentication_token_setup as token_setup
from ray._private.authentication.authentication_utils import is_token_auth_enabled
from ray._private.grpc_utils import init_grpc_channel
from ray._raylet import AuthenticationTokenLoader  # type: ignore[attr-defined] # a C++ module without types
from ray.core.generated.gcs_service_pb2 import CheckAliveRequest  # type: ignore[attr-defined] # made at import
from ray.core.generated.gcs_service_pb2_grpc import NodeInfoGcsServiceStub

from model.errors import ClusterError
from model.io.addresses import hide_passwords
from pipelines.config.held_variables import HeldVariables

ANSWER_SECONDS = 6.0
"""Seconds within which a cluster must answer; Ray itself would wait for minutes."""
TOKEN_ADVICE = (
    "Set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN to the cluster's token (or RAY_AUTH_TOKEN_PATH to a file that holds "
    "it); `ray get-auth-token` prints it on the head."
)


def find_head() -> str | None:
    """Return the address of the cluster that RAY_ADDRESS names, once its head has answered; None if it names none.

    Raises:
        ClusterError: The address has another form, does not answer, requires a token, or runs another version of Ray.
    """
    named = os.environ.get("RAY_ADDRESS", "")
    if named in ("", "local"):
        return None
    shown = hide_passwords(named)
    if "://" in named:
        raise ClusterError(
            f"RAY_ADDRESS is {shown}; on a node of the cluster use RAY_ADDRESS=auto or HEAD:6379, and from elsewhere "
            "`sat2map submit --address http://HEAD:8265`."
        )
    try:
        address = str(services.canonicalize_bootstrap_address(named))
    except ConnectionError as error:
        raise ClusterError(
            f"RAY_ADDRESS is {shown}, and no Ray cluster runs on this machine; start one with `ray start --head`, or "
            "unset RAY_ADDRESS."
        ) from error
    except (ValueError, OSError) as error:
        raise ClusterError(
            f"RAY_ADDRESS is {shown}, which is no address of a Ray cluster; use HEAD:6379 or auto, or unset it."
        ) from error
    _check_head(address, shown)
    return address


def use_token() -> None:
    """Send the user's token to clusters, if there is one and RAY_AUTH_MODE does not forbid it.

    Raises:
        ClusterError: RAY_AUTH_TOKEN_PATH names a file that can't be read, or an empty one.
    """
    _check_token_file()
    logging.getLogger(token_setup.__name__).setLevel(logging.ERROR)
    token_setup.maybe_enable_token_auth_if_token_available(warn_if_disabled=False)


def token_error(address: str) -> ClusterError:
    """Return the error for a cluster that did not accept the token, or the lack of one."""
    if not is_token_auth_enabled():
        found = "none was sent"
    elif AuthenticationTokenLoader.instance().has_token():
        found = "the one that was sent is not its own"
    else:
        found = "none was found"
    return ClusterError(f"The Ray cluster at {hide_passwords(address)} requires a token, and {found}. {TOKEN_ADVICE}")


def check_versions(address: str, *, ray_version: str, python_version: str | None = None) -> None:
    """Check that a cluster's Ray and Python are those of this environment.

    Raises:
        ClusterError: They are not.
    """
    here = f"Ray {ray.__version__}"
    there = f"Ray {ray_version}"
    if python_version is not None:
        here += f" on Python {minor(platform.python_version())}"
        there += f" on Python {minor(python_version)}"
    if there != here:
        raise ClusterError(
            f"The cluster at {hide_passwords(address)} runs {there}, and this environment {here}; install the packages "
            "of requirements.lock on both."
        )


@contextlib.contextmanager
def own_token() -> Iterator[None]:
    """Protect a cluster that is started in the block with a token of its own, unless the user has one.

    Otherwise Ray would write a token to ~/.ray/auth_token, which it then also requires of clusters started later.

    Raises:
        ClusterError: RAY_AUTH_TOKEN_PATH names a file that can't be read, or an empty one.
    """
    _check_token_file()
    loader = AuthenticationTokenLoader.instance()
    loader.reset_cache()
    if loader.has_token(ignore_auth_mode=True):
        yield
        return
    with HeldVariables({"RAY_AUTH_TOKEN": secrets.token_hex(32)}).held():
        loader.reset_cache()
        try:
            yield
        finally:
            loader.reset_cache()


def _check_token_file() -> None:
    path = os.environ.get("RAY_AUTH_TOKEN_PATH", "")
    if not path or os.environ.get("RAY_AUTH_TOKEN"):
        return
    try:
        reason = "" if Path(path).read_bytes().strip() else "it is empty"
    except OSError as error:
        reason = str(error.strerror)
    if reason:
        raise ClusterError(
            f"RAY_AUTH_TOKEN_PATH is {path}, which can't be used ({reason}); name a file that holds the cluster's "
            "token, or unset it."
        )


def _check_head(address: str, shown: str) -> None:
    use_token()
    with contextlib.closing(init_grpc_channel(address)) as channel:
        try:
            head = NodeInfoGcsServiceStub(channel)  # type: ignore[no-untyped-call]
            answer = head.CheckAlive(CheckAliveRequest(), timeout=ANSWER_SECONDS, wait_for_ready=True)
        except grpc.RpcError as error:
            if error.code() == grpc.StatusCode.UNAUTHENTICATED:
                raise token_error(shown) from error
            raise ClusterError(
                f"No Ray cluster answered at {shown} within {ANSWER_SECONDS:.0f} s; start it, or correct or unset "
                "RAY_ADDRESS."
            ) from error
    check_versions(shown, ray_version=answer.ray_version)


def minor(version: str) -> str:
    """Return the first two parts of a version."""
    return ".".join(version.split(".")[:2])
