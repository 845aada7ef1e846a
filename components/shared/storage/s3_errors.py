"""Translates errors of object storage into failures with a remedy."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from components.shared.base.failure import ExitCode, Failure

if TYPE_CHECKING:
    from botocore.exceptions import BotoCoreError, ClientError

_WRITES = ("Put", "Upload", "Create", "Complete", "Delete", "Abort")
_CREDENTIALS = "fix AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or the Secret that contains them"
_REGION = "fix AWS_REGION: it must name the region of the bucket"
_ADDRESS = "start it, or fix --store and AWS_ENDPOINT_URL_S3"
# By error code of the response: what, remedy, exit code.
_ANSWERS = {
    "NoSuchBucket": ("The bucket does not exist", "create it, or fix --store", ExitCode.FAILED),
    "InvalidBucketName": ("This cannot be the name of a bucket", "fix --store", ExitCode.USAGE),
    "RequestTimeTooSkewed": (
        "The clock of this machine and that of object storage differ by minutes",
        "set the clock",
        ExitCode.FAILED,
    ),
    "PermanentRedirect": ("The bucket is in another region", _REGION, ExitCode.USAGE),
    "301": ("The bucket is in another region", _REGION, ExitCode.USAGE),
    "AuthorizationHeaderMalformed": ("The bucket is in another region", _REGION, ExitCode.USAGE),
    "NotImplemented": (
        "Object storage does not implement an operation that the store needs, which may be the conditional write",
        "use a server that supports If-None-Match: AWS, MinIO, Ceph, a current SeaweedFS",
        ExitCode.FAILED,
    ),
    "QuotaExceeded": ("The quota of the bucket is used up", "raise it, or run `wikigpt gc`", ExitCode.FAILED),
    "XMinioStorageFull": ("Object storage is full", "free some space there, or run `wikigpt gc`", ExitCode.FAILED),
    "InsufficientStorage": ("Object storage is full", "free some space there, or run `wikigpt gc`", ExitCode.FAILED),
}
_UNKNOWN_KEY = {"InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken", "TokenRefreshRequired"}
# A gateway in front of the storage reports these in HTML. botocore reports an HTML page with status 200 as a 500.
_GATEWAY = (502, 503, 504)
_DENIED = {"AccessDenied", "Forbidden", "403", "Unauthorized", "401", "AllAccessDisabled", "MethodNotAllowed"}


@contextmanager
def translate_s3_errors(where: str) -> Iterator[None]:
    """Translates errors that botocore raises inside the block into a `Failure` about an address."""
    from botocore.exceptions import BotoCoreError, ClientError
    from botocore.parsers import ResponseParserError

    try:
        yield
    except ClientError as error:
        raise _from_response(error, where) from error
    except BotoCoreError as error:
        raise _from_client(error, where) from error
    except ResponseParserError as error:
        raise web_page(where) from error


def code_of(error: ClientError) -> str:
    """The error code of S3, or the HTTP status as text if the response has no body."""
    return str(error.response.get("Error", {}).get("Code", "unknown"))


def web_page(where: str, status: int | None = None) -> Failure:
    """The failure for an endpoint that is not object storage."""
    seen = f" (HTTP {status})" if status else ""
    return Failure(
        f"The endpoint answered with something that is not S3, such as a web page{seen}",
        where=where,
        remedy="fix AWS_ENDPOINT_URL_S3: it must name the S3 port of the storage, not its console",
        exit_code=ExitCode.UNREACHABLE,
    )


def _from_response(error: ClientError, where: str) -> Failure:
    code, metadata = code_of(error), error.response.get("ResponseMetadata", {})
    status = int(metadata.get("HTTPStatusCode") or 0)
    is_page = str(metadata.get("HTTPHeaders", {}).get("content-type", "")).startswith("text/html")
    if is_page and status not in _GATEWAY:
        return web_page(where, None if status == 500 else status)
    if status >= 500 and code not in _ANSWERS:
        return Failure(
            f"Object storage is overloaded or down: it answered {code} (HTTP {status}) to every attempt",
            where=where,
            remedy="check that service, then run again",
            exit_code=ExitCode.UNREACHABLE,
        )
    if code in _ANSWERS:
        what, remedy, exit_code = _ANSWERS[code]
        return Failure(what, where=where, remedy=remedy, exit_code=exit_code)
    if code in _UNKNOWN_KEY:
        return _refused(f"Object storage refused the credentials: {code}", where, _CREDENTIALS)
    if code in _DENIED and error.operation_name.startswith(_WRITES):
        return _refused(
            f"The bucket cannot be written with these credentials: {code}",
            where,
            "allow s3:PutObject and s3:DeleteObject below the prefix, or " + _CREDENTIALS,
        )
    if code in _DENIED:
        return _refused(
            f"The bucket cannot be read with these credentials: {code}",
            where,
            "allow s3:GetObject and s3:ListBucket, or " + _CREDENTIALS,
        )
    return Failure(f"Object storage answered {code}", where=where, remedy="check that service, then run again")


def _from_client(error: BotoCoreError, where: str) -> Failure:
    from botocore import exceptions as botocore

    if isinstance(error, botocore.NoCredentialsError | botocore.PartialCredentialsError):
        return _refused("There are no credentials for object storage", where, _CREDENTIALS)
    if isinstance(error, botocore.ProfileNotFound | botocore.CredentialRetrievalError):
        return _refused(
            f"The credentials cannot be loaded: {error}", where, "fix AWS_PROFILE or the source of the credentials"
        )
    if isinstance(error, botocore.ParamValidationError | botocore.InvalidRegionError):
        return Failure(
            f"This cannot be an address in object storage: {' '.join(str(error).split())[:200]}",
            where=where,
            remedy="fix --store and AWS_REGION",
            exit_code=ExitCode.USAGE,
        )
    if type(error) is botocore.HTTPClientError:
        # The message of the transport may quote a header, and a header contains the credentials.
        inner = type(error.kwargs.get("error")).__name__
        return Failure(
            f"The request to object storage cannot be made ({inner})",
            where=where,
            remedy="check the AWS variables and the proxy variables HTTP_PROXY and HTTPS_PROXY",
            exit_code=ExitCode.UNREACHABLE,
        )
    if isinstance(error, _connection_errors()):
        what = " ".join(str(error).split())
        return Failure(
            f"Object storage cannot be reached: {what}", where=where, remedy=_ADDRESS, exit_code=ExitCode.UNREACHABLE
        )
    return misconfigured(error, where)


def misconfigured(error: Exception, where: str) -> Failure:
    """The failure for an AWS configuration that boto3 rejects before it sends a request."""
    return Failure(
        f"boto3 rejects its configuration: {' '.join(str(error).split())[:300]}",
        where=where,
        remedy="correct the variable AWS_… or the file that the message names; AWS_CONFIG_FILE and"
        " AWS_SHARED_CREDENTIALS_FILE name the files, which are in ~/.aws by default",
        exit_code=ExitCode.USAGE,
    )


def _connection_errors() -> tuple[type[Exception], ...]:
    """The exceptions of botocore for a server that sends no response or an incomplete one."""
    from botocore import exceptions as botocore

    return (
        botocore.ConnectionError,
        botocore.HTTPClientError,
        botocore.IncompleteReadError,
        botocore.MetadataRetrievalError,
        botocore.ChecksumError,
        botocore.FlexibleChecksumError,
        botocore.AwsChunkedWrapperError,
    )


def _refused(what: str, where: str, remedy: str) -> Failure:
    return Failure(what, where=where, remedy=remedy, exit_code=ExitCode.UNAUTHORISED)
