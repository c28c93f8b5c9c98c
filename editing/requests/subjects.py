"""Requests without a subject, and the editors that cannot use them."""

from editing.base.errors import RequestError
from editing.requests.edit_request import EditRequest


def require_subject(request: EditRequest) -> None:
    """Refuse a request without a subject, before anything is read at it.

    Raises:
        RequestError: Naming the request.
    """
    if not request.subject:
        raise RequestError(
            f"Request {request.case_id} has no subject (prompt "
            f"{request.prompt!r:.60}), and this editor reads the model at the "
            "subject's last token. Give it a subject, with `{}` in its place in the "
            "prompt, or choose an editor that reads at the answer: `ultraedit`, "
            "`stableedit` or `malmen`."
        )
