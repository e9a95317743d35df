"""What goes wrong with SQS, in the words of the runner's own errors; no text repeats a key or a signature."""

from __future__ import annotations

from adapters.unreached import unreached
from runner.credential import Credential
from runner.errors import BadInput, ConfigurationError, LeaseLost, Refused, RunnerError, Unavailable

_HANDLES = {"ReceiptHandleIsInvalid", "MessageNotInflight"}
_NO_KEYS = (
    "write access_key and secret_key into a credential file, or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, "
    "or give this machine a role"
)
_KEYS = {
    "InvalidClientTokenId": "access_key is not known there",
    "UnrecognizedClientException": "access_key is not known there",
    "InvalidAccessKeyId": "access_key is not known there",
    "SignatureDoesNotMatch": "secret_key does not belong to access_key",
    "InvalidSignatureException": "secret_key does not belong to access_key",
    "IncompleteSignature": "access_key or secret_key is cut off",
    "ExpiredToken": "session_token has expired, and its keys with it",
    "ExpiredTokenException": "session_token has expired, and its keys with it",
}
_ELSE = {
    "MissingAuthenticationToken": f"no key was sent: {_NO_KEYS}",
    "OptInRequired": "the account may not use SQS in this region: name another region",
    "RequestExpired": "the clock of this machine is wrong: set it",
}
_SERVER_ERROR = 500
_BUSY = {"Throttling", "ThrottlingException", "RequestThrottled", "IDPCommunicationError"}
_HERE = "mend the credential file"
_ELSEWHERE = "mend the keys that this machine has in its environment, its AWS profile or its role"
_DOING = {
    "get_queue_url": "look for",
    "get_queue_attributes": "look at",
    "list_queues": "list",
    "list_dead_letter_source_queues": "look at",
    "create_queue": "make",
    "send_message": "put into",
    "receive_message": "fetch from",
    "delete_message": "delete a message of",
    "change_message_visibility": "renew or give back a message of",
    "change_message_visibility_batch": "give back",
}
_DENIED = {"AccessDenied", "AccessDeniedException", "InvalidSecurity", "KmsAccessDenied", "AuthorizationError"}
_CONTENT = {"InvalidMessageContents", "InvalidParameterValue", "InvalidAttributeValue", "MessageTooLong"}
_MESSAGE_MAX = 300
_MISSING = {"NonExistentQueue", "QueueDoesNotExist"}


class QueueMissing(Unavailable):
    """There is no such queue now; it may be made, or come back."""


class NoKeys(ConfigurationError):
    """There are no keys, or they no longer count; there may be others when they are looked for again."""


def in_words(action: str, what: str, where: str, error: Exception, credential: Credential) -> RunnerError:
    """Return the error that says what was attempted, on which queue, where, and what to do."""
    from botocore import exceptions as sdk

    tried = f"{_DOING.get(action, 'use')} {what} at {where}"
    match error:
        case sdk.ClientError() if error.operation_name == _name(action):
            return _answered(action, tried, error, _HERE if "access_key" in credential.secrets else _ELSEWHERE)
        case sdk.NoRegionError():
            return ConfigurationError(f"{tried}: no region: name it in the URL, like sqs://us-east-1/queue")
        case sdk.ProfileNotFound():
            return ConfigurationError(
                f"{tried}: {_short(str(error))}: correct profile in the credential file, or AWS_PROFILE"
            )
        case sdk.InvalidRegionError() | sdk.ParamValidationError() | ValueError():
            return ConfigurationError(f"{tried}: {_short(str(error))}: correct the URL, or the credential file")
        case _:
            return _without_keys(tried, error, credential) or _unanswered(tried, error)


def _without_keys(tried: str, error: Exception, credential: Credential) -> RunnerError | None:
    """Tell of what kept the SDK from finding keys; None where it was something else."""
    from botocore import exceptions as sdk

    match error:
        case sdk.ClientError(operation_name=asked):
            return _keys_refused(f"{tried}: no keys were found: {asked} answered", error)
        case sdk.NoCredentialsError() | sdk.PartialCredentialsError():
            return NoKeys(f"{tried}: no keys were found in {_looked_at(credential)}")
        case sdk.InvalidConfigError() | sdk.SSOError():
            return NoKeys(f"{tried}: no keys were found: {_short(str(error))}")
        case FileNotFoundError() | PermissionError():
            return NoKeys(f"{tried}: cannot read {error.filename}: {error.strerror}")
        case _:
            return None


def _unanswered(tried: str, error: Exception) -> RunnerError:
    from botocore import exceptions as sdk

    endpoint = getattr(error, "kwargs", {}).get("endpoint_url", "")
    at = f" (endpoint {endpoint})" if endpoint else ""
    fix = "check its region and endpoint, and that it can be reached"
    match error:
        case TimeoutError() | sdk.ConnectTimeoutError() | sdk.ReadTimeoutError():
            return Unavailable(f"{tried}{at}: no answer in time: {fix}")
        case sdk.ConnectionClosedError():
            return Unavailable(f"{tried}{at}: the connection was closed without an answer: {fix}")
        case sdk.SSLError() if "CERTIFICATE_VERIFY_FAILED" in str(error):
            return ConfigurationError(f"{tried}{at}: its certificate is not trusted: name the authority as ca_file")
        case sdk.ConnectionError() | sdk.HTTPClientError() | OSError():
            return Unavailable(f"{tried}{at}: {unreached(error) or _short(str(error))}: {fix}")
        case _:
            return Unavailable(f"{tried}: what answers is no SQS ({_short(str(error))}): {fix}")


def error_code(error: object) -> str:
    """Return a service's own name for an error, without the namespaces that its protocols put before it."""
    response = getattr(error, "response", {})
    return str(response.get("Error", {}).get("Code", "")).rpartition("#")[2].rpartition(".")[2]


def _looked_at(credential: Credential) -> str:
    if profile := credential.options.get("profile"):
        return f"the profile {profile}: write them into the AWS files of the runner's own user"
    return (
        "the credential file, the runner's environment, the AWS files of its user, a web identity or the role of this "
        "box: write access_key and secret_key into the file, or give the runner one of the others"
    )


def _keys_refused(told: str, error: Exception) -> RunnerError:
    """Tell what a service that hands out keys answered."""
    code = error_code(error)
    if _status(error) >= _SERVER_ERROR or code in _BUSY:
        return Unavailable(f"{told} {code}: {_message(error)}")
    return NoKeys(f"{told} {code}: {_message(error)}: look at the role, whom it trusts, and the token")


def _answered(action: str, tried: str, error: Exception, mend: str) -> RunnerError:
    code, message = error_code(error), _message(error)
    if code in _KEYS or code in _ELSE:
        return NoKeys(f"{tried}: {_ELSE.get(code) or f'{_KEYS[code]}: {mend}'}")
    if code in _DENIED:
        fix = f"the policy of its key must allow sqs:{_name(action)} there"
        return Refused(f"{tried}: access denied: {fix} ({message})")
    if code in _MISSING:
        return QueueMissing(f"{tried}: there is no such queue (any more)")
    if code in _HANDLES or (code == "InvalidParameterValue" and "ReceiptHandle" in message) or _is_expired(message):
        return LeaseLost(f"{tried}: the claim lapsed or was settled; another box may have it")
    if code in _CONTENT and action == "send_message":
        return BadInput(f"{tried}: {message}")
    if code in _CONTENT or code in {"InvalidAddress", "UnsupportedOperation", "InvalidAttributeName"}:
        return ConfigurationError(f"{tried}: {code}: {message}")
    return Unavailable(
        f"{tried}: the service answers {code or _status(error)}: {message or 'it says no more'}: try again later"
    )


def _status(error: object) -> int:
    return int(getattr(error, "response", {}).get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def _is_expired(message: str) -> bool:
    """Tell the answer to a handle that no longer counts, which comes without the parameter's name."""
    lowered = message.lower()
    return "receipt handle has expired" in lowered or "receipthandle is invalid" in lowered


def _message(error: Exception) -> str:
    return _short(str(getattr(error, "response", {}).get("Error", {}).get("Message", "")))


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _MESSAGE_MAX else line[:_MESSAGE_MAX] + "…"


def _name(action: str) -> str:
    return "".join(part.capitalize() for part in action.split("_"))
