// The totals, the bars of what is shared and of the machine, and the history.

const MOST_PARTS = 8; // of the bar: each has a width of its own, however small

class Summary {
  constructor(store) {
    this.store = store;
    this.figures = {};
    const figures = h("dl", { class: "ms-figures" });
    for (const [key, label, about] of [
      ["pages", "pages", "Blocks of shared memory, one a variable"],
      ["views", "views", "Mappings by processes that attached a page"],
      ["handles", "handles", "Claims on pages: owners and views"],
      ["shared", "shared", "Bytes of data in shared memory; each page counts once"],
      ["copies", "as copies", "What the same processes would need with a copy each"],
    ]) {
      this.figures[key] = h("dd");
      figures.append(
        h("div", { title: about, "data-figure": key }, h("dt", {}, label), this.figures[key]),
      );
    }
    this.rooms = h("dl", { class: "ms-figures ms-rooms" });
    const size = { viewBox: "0 0 120 26", width: 120, height: 26 };
    this.spark = svg("svg", { class: "ms-spark", role: "img", ...size });
    this.trend = h("div", { class: "ms-muted" });
    this.shared = h("div", { class: "ms-bar ms-shared", role: "img" });
    this.bar = h("div", { class: "ms-bar", role: "img" });
    const trend = h("div", { class: "ms-trend" }, this.trend, this.spark);
    const above = h("div", { class: "ms-summary" }, figures, this.rooms, trend);
    const name = (text) => h("span", { class: "ms-muted", "aria-hidden": "true" }, text);
    const bars = [name("shared"), this.shared, name("machine"), this.bar];
    this.element = h("div", {}, above, h("div", { class: "ms-bars" }, ...bars));
  }

  draw() {
    const { store } = this;
    if (this.summed !== store.version) {
      this.summed = store.version;
      this.drawTotals();
    }
    this.drawRooms();
    this.drawBars(this.sums, store.total);
    this.drawSpark();
  }

  drawTotals() {
    let views = 0;
    let handles = 0;
    let copies = 0;
    this.sums = new Map();
    for (const page of this.store.pages.values()) {
      views += viewsOf(page);
      handles += page.holders.length;
      copies += page.size * new Set(page.holders.map((holder) => holder.process)).size;
      this.sums.set(page.namespace, (this.sums.get(page.namespace) ?? 0) + page.size);
    }
    setText(this.figures.pages, number.format(this.store.pages.size));
    setText(this.figures.views, number.format(views));
    setText(this.figures.handles, number.format(handles));
    setText(this.figures.shared, units(this.store.total));
    setText(this.figures.copies, units(copies));
  }

  drawRooms() {
    const rooms = this.store.memory.map((room) => [
      room.where === "this machine" ? "machine free" : "cgroup free",
      `${units(room.free)} of ${units(room.limit)}`,
      `What can still be taken of ${room.where}`,
    ]);
    if (this.roomsShown === JSON.stringify(rooms)) return;
    this.roomsShown = JSON.stringify(rooms);
    this.rooms.replaceChildren(
      ...rooms.map(([label, text, title]) =>
        h("div", { title }, h("dt", {}, label), h("dd", {}, text)),
      ),
    );
  }

  /** Draw what is shared, by namespace; and the machine, of which that may be next to nothing. */
  drawBars(sums, shared) {
    const machine = this.store.memory[0];
    if (!machine) return;
    const total = Math.max(machine.limit, shared);
    const others = Math.max(0, machine.limit - machine.free - shared);
    const ordered = [...sums].sort((a, b) => b[1] - a[1]);
    const parts = ordered
      .slice(0, MOST_PARTS)
      .map(([name, bytes]) => ({ name, bytes, hue: this.store.hues.get(name) }));
    const rest = ordered.slice(MOST_PARTS);
    if (rest.length)
      parts.push({
        name: `${count(rest.length, "namespace")} more`,
        bytes: rest.reduce((sum, [, bytes]) => sum + bytes, 0),
        hue: "more",
      });
    const signature = JSON.stringify([parts, total, Math.round((others / total) * 500)]);
    if (signature === this.barShown) return;
    this.barShown = signature;
    const part = (bytes, of, title, css, text = "") => {
      const style = `flex:0 1 ${((bytes / of) * 100).toFixed(3)}%`;
      return h("span", { class: css, title, style }, text);
    };
    this.shared.replaceChildren(
      ...parts.map(({ name, bytes, hue }) => {
        const text = `${name} ${units(bytes)}`;
        return part(bytes, shared || 1, text, `ms-part ms-hue-${hue}`, h("span", {}, text));
      }),
    );
    this.bar.replaceChildren(
      part(shared, total, `shared: ${units(shared)}`, "ms-ours"),
      part(others, total, `other memory in use: ${units(others)}`, "ms-others"),
    );
    const named = parts.map(({ name, bytes }) => `${name} ${units(bytes)}`).join(", ");
    setAttribute(this.shared, "aria-label", `Shared: ${named || "nothing"}`);
    setAttribute(
      this.bar,
      "aria-label",
      `Of ${units(machine.limit)} of memory, shared: ${units(shared)}; other memory in use: ${units(others)}; free: ${units(machine.free)}`,
    );
  }

  drawSpark() {
    const { history } = this.store;
    const now = this.store.now();
    // From the beginning of what is known, so that a new panel has something to show.
    const begin = Math.min(now - 60, Math.max(now - HISTORY_S, history[0]?.[0] ?? now));
    const most = Math.max(1, ...history.map(([, bytes]) => bytes));
    const x = (at) => ((Math.max(0, at - begin) / (now - begin)) * 120).toFixed(1);
    const y = (bytes) => (24.5 - (bytes / most) * 22).toFixed(1);
    let line = "";
    for (const [i, [at, bytes]] of history.entries())
      line += i ? `H${x(at)}V${y(bytes)}` : `M${x(at)} ${y(bytes)}`;
    line += line && "H120";
    const trend = `last ${span(now - begin)}, at most ${units(most === 1 ? 0 : most)}`;
    setText(this.trend, trend);
    if (line === this.sparkShown) return;
    this.sparkShown = line;
    const first = history.length ? x(history[0][0]) : 120;
    const label = `Shared bytes in the ${trend}; now ${units(this.store.total)}`;
    this.spark.replaceChildren(
      svg("title", {}, label),
      svg("path", { class: "ms-spark-base", d: "M0 25H120" }),
      ...(line
        ? [
            svg("path", { class: "ms-spark-area", d: `${line}V25H${first}Z` }),
            svg("path", { class: "ms-spark-line", d: line }),
          ]
        : []),
    );
    setAttribute(this.spark, "aria-label", label);
  }
}
