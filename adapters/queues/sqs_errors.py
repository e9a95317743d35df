"""What goes wrong with SQS, in the words of the runner's own errors; no text repeats a key or a signature."""

from __future__ import annotations

from runner.errors import BadInput, ConfigurationError, LeaseLost, Refused, RunnerError, Unavailable

_HANDLES = {"ReceiptHandleIsInvalid", "MessageNotInflight"}
_KEYS = {
    "InvalidClientTokenId": "access_key is not known there",
    "UnrecognizedClientException": "access_key is not known there",
    "InvalidAccessKeyId": "access_key is not known there",
    "SignatureDoesNotMatch": "secret_key does not belong to access_key",
    "InvalidSignatureException": "secret_key does not belong to access_key",
    "IncompleteSignature": "access_key or secret_key is cut off",
    "ExpiredToken": "session_token has expired: put in a new one, with its access_key and secret_key",
    "ExpiredTokenException": "session_token has expired: put in a new one, with its access_key and secret_key",
    "MissingAuthenticationToken": "no key was sent: name access_key and secret_key",
    "OptInRequired": "the account may not use SQS in this region: look at the region in url",
    "RequestExpired": "the clock of this box is wrong: set it",
}
_DENIED = {"AccessDenied", "AccessDeniedException", "InvalidSecurity", "KmsAccessDenied", "AuthorizationError"}
_CONTENT = {"InvalidMessageContents", "InvalidParameterValue", "InvalidAttributeValue", "MessageTooLong"}
_MESSAGE_MAX = 300
_MISSING = {"NonExistentQueue", "QueueDoesNotExist"}


class QueueMissing(Unavailable):
    """There is no such queue now; it may be made, or come back."""


def in_words(action: str, what: str, error: Exception) -> RunnerError:
    """Return the error that says what was attempted, on which queue, and what to do."""
    from botocore import exceptions as sdk

    tried = f"{_name(action)} {what}".rstrip()
    match error:
        case sdk.ClientError():
            return _answered(action, tried, error)
        case sdk.NoRegionError():
            return ConfigurationError(f"{tried}: no region: name it in the credential file: sqs://us-east-1/queue")
        case sdk.NoCredentialsError() | sdk.PartialCredentialsError():
            fix = "name access_key and secret_key in the credential file, or give this box a role or an environment"
            return ConfigurationError(f"{tried}: no keys were found: {fix}")
        case sdk.ProfileNotFound() | sdk.InvalidRegionError() | sdk.ParamValidationError() | ValueError():
            return ConfigurationError(f"{tried}: {error}: mend the credential file")
        case _:
            return Unavailable(f"{tried}: no answer: {type(error).__name__}: {_short(str(error))}")


def error_code(error: object) -> str:
    """Return a service's own name for an error, without the namespaces that its protocols put before it."""
    response = getattr(error, "response", {})
    return str(response.get("Error", {}).get("Code", "")).rpartition("#")[2].rpartition(".")[2]


def _answered(action: str, tried: str, error: Exception) -> RunnerError:
    code, message = error_code(error), _message(error)
    if code in _KEYS:
        return ConfigurationError(f"{tried}: {code}: mend the credential file: {_KEYS[code]}")
    if code in _DENIED:
        return Refused(f"{tried}: access denied: the key's policy must allow sqs:{_name(action)} there ({message})")
    if code in _MISSING:
        return QueueMissing(f"{tried}: there is no such queue (any more)")
    if code in _HANDLES or (code == "InvalidParameterValue" and "ReceiptHandle" in message) or _is_expired(message):
        return LeaseLost(f"{tried}: the claim lapsed or was settled; another box may have it")
    if code in _CONTENT and action == "send_message":
        return BadInput(f"{tried}: {message}")
    status = getattr(error, "response", {}).get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    if code in _CONTENT or code in {"InvalidAddress", "UnsupportedOperation", "InvalidAttributeName"}:
        return ConfigurationError(f"{tried}: {code}: {message}")
    return Unavailable(f"{tried}: answered {code or status}: {message}")


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
