"""The page of the ``hello`` sample: asks its own address twice a second and shows which instance answered."""

from html import escape
from string import Template

_PAGE = Template(
    """\
<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>hello from $name</title>
<style>
  :root { color-scheme: light dark; --instance-0: #2f6fde; --instance-1: #d9822b; --instance-2: #2b9a66;
          --instance-3: #9b51e0; --failed: #c92a2a }
  body { font: 16px/1.5 system-ui, sans-serif; max-width: 42rem; margin: 12vh auto 0; padding: 0 1.5rem }
  h1 { font-size: 2.6rem; margin: 0 }
  p { margin: .4rem 0 }
  code { font-size: .95em }
  .faint { opacity: .7 }
  #strip { display: flex; flex-wrap: wrap; gap: 4px; margin: 1.6rem 0; min-height: 5.5rem; align-content: start }
  #strip span { width: 22px; height: 22px; border-radius: 5px; color: white; font: 12px/22px system-ui;
                text-align: center }
</style>
<h1>hello from <span id="name">$name</span></h1>
<p class="faint" id="facts">This page came through the router.</p>
<div id="strip" role="img" aria-label="instances that answered, oldest first"></div>
<p>One square is one request, its number the instance that answered. End an instance with
<code>kill -9</code> and its pid from the terminal: the other one takes over with the next request.</p>
<script>
  const strip = document.getElementById("strip");
  const facts = document.getElementById("facts");
  function square(text, title, color) {
    const mark = document.createElement("span");
    mark.textContent = text;
    mark.title = title;
    mark.style.background = `var($${color})`;
    strip.append(mark);
    while (strip.children.length > 100) strip.firstChild.remove();
  }
  async function ask() {
    try {
      const wanted = { headers: { Accept: "application/json" }, cache: "no-store" };
      const answer = await fetch(location.pathname, wanted);
      if (!answer.ok) throw new Error(`status $${answer.status}`);
      const seen = await answer.json();
      const index = seen.instance.split("/")[1];
      square(index, seen.instance, `--instance-$${index % 4}`);
      document.getElementById("name").textContent = seen.instance;
      facts.textContent = `pid $${seen.pid}, port $${seen.port}, over $${location.protocol.slice(0, -1)}`;
    } catch (error) {
      square("!", error.message, "--failed");
      facts.textContent = error.message;
    }
  }
  setInterval(ask, 500);
  ask();
</script>
</html>
"""
)


def hello_page(name: str) -> str:
    """Return the page of an instance named like ``hello/0``."""
    return _PAGE.substitute(name=escape(name))
