"""The style sheet of the pages, and the script that they read without."""

from __future__ import annotations

STYLE = """
:root { color-scheme: light; --ink: #1f2933; --soft: #566070; --line: #e1e6ec; --blue: #1d5fa8; }
* { box-sizing: border-box; }
body { margin: 0; background: #f4f6f8; color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif; }
main { margin: 0 auto; padding: 28px 16px 60px; overflow-wrap: break-word; }
h1 { font-size: 28px; line-height: 1.2; margin: 0 0 4px; }
h2, td, li, dt { overflow-wrap: anywhere; }
nav td:nth-child(3) { min-width: 110px; }
nav td:last-child { width: 1%; white-space: nowrap; }
h2 { font-size: 21px; line-height: 1.3; margin: 0 0 16px; }
h3 { font-size: 15px; margin: 26px 0 8px; }
h4 { font-size: 14px; margin: 18px 0 8px; }
p { margin: 6px 0; }
a { color: var(--blue); }
section, .card { background: #fff; border: 1px solid var(--line); border-radius: 12px;
  padding: 22px 24px; margin: 20px 0; }
.soft, figcaption { color: var(--soft); font-size: 13px; }
.number { display: inline-block; min-width: 30px; padding: 0 8px; border-radius: 15px;
  background: var(--ink); color: #fff; font-size: 15px; line-height: 28px; text-align: center; }
.scale.likely { background: linear-gradient(90deg, #bec8d6, #6a84a8 25%, #173f7a); }
.columns { display: grid; grid-template-columns: minmax(0, 490px) minmax(0, 1fr); gap: 28px; }
.columns h3:first-child { margin-top: 0; }
@media (max-width: 820px) { .columns { grid-template-columns: minmax(0, 1fr); } }
figure { margin: 0; }
figure > svg { display: block; max-width: 100%; height: auto; border-radius: 6px; }
figcaption { margin-top: 8px; }
.scale { display: inline-block; width: 90px; height: 10px; border-radius: 5px; margin: 0 6px;
  background: linear-gradient(90deg, #e8b0be, #980e3e); }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th { text-align: left; font-weight: 600; white-space: nowrap; }
th, td { padding: 4px 14px 4px 0; border-bottom: 1px solid var(--line); vertical-align: top; }
.tiles { display: flex; flex-wrap: wrap; gap: 12px; margin: 20px 0; }
.tiles div { background: #fff; border: 1px solid var(--line); border-radius: 12px;
  padding: 10px 18px; min-width: 120px; }
.tiles dt { color: var(--soft); font-size: 13px; }
.tiles dd { margin: 0; font-size: 21px; font-weight: 600; }
.full { width: 100%; }
.bar { display: block; height: 12px; border-radius: 6px; background: #e9edf2; overflow: hidden; }
.bar span { display: block; height: 100%; border-radius: 6px; background: #7b8aa0; }
.best .bar span { background: var(--blue); }
.rose span { background: #b23a62; }
.answers { display: grid; grid-template-columns: minmax(70px, max-content) 1fr max-content;
  gap: 7px 12px; align-items: center; margin: 0; }
.answers div { display: contents; }
.answers dt, .answers dd { margin: 0; }
.best { font-weight: 600; }
.mark { display: inline-block; border-radius: 10px; padding: 0 9px; font-size: 13px;
  font-weight: 600; white-space: nowrap; background: #e9edf2; color: #46505e; }
.right { background: #d8f0e1; color: #14532d; }
.partly { background: #fdf0cf; color: #6b4500; }
.wrong { background: #fbdfe0; color: #85141c; }
.nodes { list-style: none; margin: 0; padding: 0; columns: 2; column-gap: 32px; }
.nodes li { display: grid; grid-template-columns: minmax(0, 1fr) 90px 36px 76px; gap: 10px;
  align-items: center; padding: 3px 6px; break-inside: avoid; border-bottom: 1px solid #eef1f4; }
.nodes .mark { justify-self: start; }
.nodes [data-kept="false"] { color: #66707f; }
.nodes [data-kept="false"] .bar span { background: #b8c1cc; }
.strip { overflow-x: auto; padding-bottom: 4px; }
.strip table { margin-bottom: 10px; }
.strip th, .strip td { border: 0; padding: 0; font-size: 12px; font-weight: 400; }
.strip thead th { vertical-align: bottom; }
.strip thead span { writing-mode: vertical-rl; transform: rotate(180deg); max-height: 9em;
  white-space: nowrap; overflow: hidden; text-overflow: ellipsis; padding-top: 4px; }
.strip tbody th { padding-right: 10px; white-space: nowrap; color: var(--soft); }
.strip td { width: 27px; min-width: 27px; height: 26px; border: 1px solid #fff;
  background: #f1f4f8; }
.strip .dropped, .hatched { background: repeating-linear-gradient(45deg, #e4e8ee 0 3px,
  #f8f9fb 3px 6px); }
.key.predicted { border: 3px solid #1d5fa8; }
.key.annotated { border: 3px dashed #14703a; }
.key { display: inline-block; width: 26px; height: 13px; vertical-align: -2px; margin: 0 4px; }
.attention { background: linear-gradient(90deg, #f1f4f8, #173f7a); width: 80px; }
.blocks { margin-bottom: 10px; }
.blocks th, .blocks td { text-align: right; }
.blocks th:first-child { text-align: left; }
.facts { columns: 2; column-gap: 32px; margin: 0; padding-left: 20px; }
.facts li { break-inside: avoid; }
.facts .denied { text-decoration: line-through; color: var(--soft); }
.strengths td:nth-child(2), .strengths td:last-child { white-space: nowrap; }
.strengths td:nth-child(4) { width: 180px; vertical-align: middle; }
.strengths .dim { opacity: 0.35; }
summary { cursor: pointer; font-weight: 600; margin: 26px 0 8px; }
svg .lit > rect:first-of-type { stroke: #111; stroke-width: 4; stroke-dasharray: none; }
svg .dim { opacity: 0.15; }
.nodes .lit { background: #fff4cf; }
"""

# Pointing at a node marks it in the picture, the graph and the list; the page reads without it.
SCRIPT = """
document.querySelectorAll("section").forEach(section => {
  const away = (edge, number) =>
    number !== null && !(edge.dataset.ends ?? edge.dataset.label).split(" ").includes(number);
  const mark = number => {
    section.querySelectorAll("[data-node]").forEach(one =>
      one.classList.toggle("lit", one.dataset.node === number));
    section.querySelectorAll("[data-ends], [data-label]").forEach(one =>
      one.classList.toggle("dim", away(one, number)));
  };
  section.addEventListener("mouseover", event => {
    const node = event.target.closest("[data-node]");
    mark(node ? node.dataset.node : null);
  });
  section.addEventListener("mouseleave", () => mark(null));
});
"""
