// Runs: how far each is and the button that stops it; when none goes on, how the last one ended.

class Runs {
  constructor(store) {
    this.store = store;
    this.rows = new Map();
    const label = { role: "group", "aria-label": "Runs" };
    this.element = h("div", { class: "ms-runs", ...label, hidden: true });
  }

  draw() {
    const { runs } = this.store;
    this.element.hidden = !runs.length;
    const seen = new Set(runs.map((run) => run.id));
    for (const [id, row] of this.rows) {
      if (seen.has(id)) continue;
      row.element.remove();
      this.rows.delete(id);
    }
    for (const run of runs) {
      if (!this.rows.has(run.id)) {
        this.rows.set(run.id, this.row(run));
        this.element.append(this.rows.get(run.id).element);
      }
      this.drawRun(this.rows.get(run.id), run);
    }
  }

  row(run) {
    const row = { engines: new Map() };
    row.text = h("span", { class: "ms-run-figures" });
    row.fill = h("span", { class: "ms-fill" });
    row.bar = h(
      "div",
      {
        class: "ms-progress",
        role: "progressbar",
        "aria-label": run.title,
        "aria-valuemin": 0,
        "aria-valuemax": run.total,
      },
      row.fill,
    );
    row.cancel = h(
      "button",
      {
        class: "ms-button",
        "aria-label": `Cancel ${run.title}`,
        onclick: () => this.store.cancel(run),
      },
      "Cancel",
    );
    // Elsewhere: a second click on Cancel must not fall on it.
    row.interrupt = h(
      "button",
      {
        class: "ms-button",
        "aria-label": `Interrupt the cell for ${run.title}`,
        hidden: true,
        onclick: () => this.store.interrupt(run),
      },
      "Interrupt the cell",
    );
    const scrollable = { role: "group", tabindex: "0", "aria-label": `Engines of run ${run.id}` };
    row.list = h("div", { class: "ms-engines", ...scrollable });
    row.until = h("span");
    const about = "A block is work until items were done; a high red one has failures";
    row.axis = h("div", { class: "ms-axis", title: about }, h("span", {}, "0 s"), row.until);
    row.element = h(
      "div",
      { class: "ms-run", role: "group", "aria-label": run.title },
      h(
        "div",
        { class: "ms-run-head" },
        h("span", { class: "ms-run-title" }, run.title),
        row.text,
        row.cancel,
      ),
      row.bar,
      row.list,
      row.axis,
      row.interrupt,
    );
    return row;
  }

  drawRun(row, run) {
    const done = run.done.reduce((a, b) => a + b, 0);
    setText(row.text, progressOf(run, done, this.store.now()));
    setAttribute(row.element, "data-state", run.state ?? null);
    row.cancel.hidden = Boolean(run.ended);
    row.fill.style.width = `${run.total ? (done / run.total) * 100 : 0}%`;
    setAttribute(row.bar, "aria-valuenow", done);
    const verb = run.stopping ? "Stopping" : "Cancel";
    setText(row.cancel, verb);
    setAttribute(row.cancel, "aria-label", `${verb} ${run.title}`);
    row.cancel.disabled = run.stopping || !this.store.alive;
    row.interrupt.hidden = run.stopping || !this.store.unheard.has(run.id);
    const { lanes, failed, slot_s } = run.stream;
    const slots = Math.max(0, ...Object.values(lanes).map((lane) => lane.length));
    for (const [i, engine] of run.engines.entries()) {
      if (!row.engines.has(engine)) {
        const lane = new Lane(engine);
        row.engines.set(engine, lane);
        row.list.append(lane.element);
      }
      const lane = row.engines.get(engine);
      lane.draw(run, run.done[i], lanes[engine] ?? [], failed[engine], slots);
    }
    row.axis.hidden = !slots;
    setText(row.until, took(slots * slot_s));
  }
}

/** Say how far a run is and how long it takes; the time in which it waited for others is left out. */
function progressOf(run, done, now) {
  const items = `${number.format(done)} / ${number.format(run.total)} items`;
  if (run.ended) {
    const how = `${run.state} in ${took(run.ended - run.began)}`;
    return `${items}  ·  ${how}${run.failure ? `  ·  ${run.failure}` : ""}`;
  }
  if (!run.started) return run.ahead ? `${items}  ·  queued behind ${run.ahead}` : items;
  const [since, before] = run.started;
  const rate = (done - before) / Math.max(0.001, now - since);
  if (!(rate > 0)) return items;
  const speed = rate >= 10 ? number.format(Math.round(rate)) : decimal.format(rate);
  return `${items}  ·  ${speed} items/s  ·  ${span((run.total - done) / rate)} left`;
}

function took(seconds) {
  return seconds < 9.95 ? `${decimal.format(Math.max(0, seconds))} s` : span(seconds);
}
