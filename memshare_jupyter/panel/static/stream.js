// The stream of a run: a lane for each engine, in which a block is work up to when items were done.

const IDLE = -1; // in a slot of time in which the engine was not in the call

/** Return the blocks of a lane: from where to where, how many items were done, how many failed. */
function blocksOf(lane, failed, over) {
  const blocks = [];
  let from = null;
  for (const [slot, done] of lane.entries()) {
    const wrong = failed?.[slot] ?? 0;
    if (done === IDLE) {
      if (from !== null) blocks.push({ from, to: slot, done: 0, wrong: 0 });
      from = null;
      continue;
    }
    from ??= slot;
    if (!done && !wrong) continue;
    blocks.push({ from, to: slot + 1, done, wrong });
    from = null;
  }
  // What it was at when the run was stopped, or is at now.
  if (from !== null && !over) blocks.push({ from, to: lane.length, done: 0, wrong: 0 });
  return blocks;
}

class Lane {
  constructor(engine) {
    this.name = `engine ${engine}`;
    this.image = svg("svg", { class: "ms-lane", role: "img", preserveAspectRatio: "none" });
    this.text = h("span", { class: "ms-engine-done" });
    this.element = h("div", { class: "ms-engine" }, h("span", {}, this.name), this.image, this.text);
  }

  draw(run, done, lane, failed, slots) {
    setText(this.text, number.format(done));
    const signature = JSON.stringify([lane, failed, slots, run.state]);
    if (signature === this.shown) return;
    this.shown = signature;
    const { slot_s } = run.stream;
    const blocks = blocksOf(lane, failed, run.state === "done");
    const most = Math.max(1, ...blocks.map((block) => block.done / (block.to - block.from)));
    const wrong = blocks.reduce((sum, block) => sum + block.wrong, 0);
    const busy = blocks.reduce((sum, block) => sum + block.to - block.from, 0) / Math.max(1, slots);
    const label = `${this.name}: ${count(done, "item")}, at work ${Math.round(100 * busy)} % of the time`;
    setAttribute(this.image, "viewBox", `0 0 ${Math.max(1, slots)} 12`);
    setAttribute(this.image, "aria-label", wrong ? `${label}, ${number.format(wrong)} failed` : label);
    this.image.replaceChildren(
      ...blocks.map(({ from, to, done: items, wrong: bad }) => {
        const kind = bad ? "ms-failed" : items ? "" : "ms-unfinished";
        // A failure is told from success by its height, too.
        const [y, height] = bad ? [0, 12] : [2, 8];
        const until = `until ${took(to * slot_s)}`;
        const said = items || bad ? `${count(items, "item")} ${until}` : `at work ${until}`;
        return svg(
          "rect",
          {
            class: `ms-block ${kind}`,
            x: from,
            width: to - from,
            y,
            height,
            "fill-opacity": items && !bad ? (0.6 + (0.4 * items) / (to - from) / most).toFixed(2) : 1,
          },
          svg("title", {}, bad ? `${said}, ${number.format(bad)} failed` : said),
        );
      }),
    );
  }
}
