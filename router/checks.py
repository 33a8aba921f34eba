"""Rules for a configuration about what only workers read, told before any is started and NATS is asked.

Owns the rules alone; what they judge by belongs to the data plane, of which no more is loaded than a configuration
asks for: control stays small.
"""

from router.config.findings import Findings
from router.config.schema import Config


def check_error_page(config: Config, findings: Findings) -> None:
    """Find what keeps the HTML error page from being used."""
    key, path = "html_error_template_file", config.html_error_template_file
    if not path:
        return
    from router.proxy.error_page import ErrorPage, TemplateError

    try:
        page = ErrorPage.read(path)
    except OSError as error:
        findings.error(key, f"cannot read {path}: {error.strerror or error}")
    except TemplateError as error:
        findings.error(key, str(error))
    else:
        if page.problem is not None:
            findings.warn(key, f"{page.problem}; errors are answered in plain text")


RULES = (check_error_page,)
