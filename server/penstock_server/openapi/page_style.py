"""What the page looks like, and its one script: it copies examples, with the address that the page came from."""

STYLE = """
body{font:16px/1.5 system-ui,sans-serif;margin:0;display:flex;color:#222;background:#fff}
nav{position:sticky;top:0;height:100vh;overflow:auto;flex:0 0 19em;background:#f4f5f7;font-size:14px}
nav ul{list-style:none;padding:1em;margin:0}nav a{color:inherit;text-decoration:none}
main{padding:1em 2em;max-width:75em;min-width:0}section{border-top:1px solid #ddd;margin-top:2em}
table{border-collapse:collapse;width:100%;font-size:14px}
th,td{text-align:left;vertical-align:top;padding:.3em .6em;border-bottom:1px solid #eee;overflow-wrap:anywhere}
td:first-child{white-space:nowrap}pre{background:#f4f5f7;padding:1em;overflow:auto;margin:.3em 0}
code{background:#f4f5f7;padding:0 .2em;font-size:.92em}pre code{padding:0}h2 b{color:#0a6}summary{cursor:pointer}
@media(prefers-color-scheme:dark){body{color:#ddd;background:#16181c}nav,pre,code{background:#22252b}
section,th,td{border-color:#333}a{color:#8bf}}
@media(max-width:60em){body{display:block}nav{position:static;height:auto}}
"""

SCRIPT = """
for (const each of document.querySelectorAll(".origin")) each.textContent = location.origin;
for (const button of document.querySelectorAll("button"))
  button.onclick = () => navigator.clipboard.writeText(button.nextElementSibling.textContent);
"""
