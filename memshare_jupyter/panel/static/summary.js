// The totals, the bar of memory, and the history.

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
    this.bar = h("div", { class: "ms-bar", role: "img" });
    const above = h("div", { class: "ms-summary" }, figures, this.rooms, this.spark);
    this.element = h("div", {}, above, this.bar);
  }

  draw() {
    const { store } = this;
    if (this.summed !== store.version) {
      this.summed = store.version;
      this.drawTotals();
    }
    this.drawRooms();
    this.drawBar(this.sums, store.total);
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
      copies += page.size * new Set(page.holders.map((holder) => holder.pid)).size;
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

  drawBar(sums, shared) {
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
    const part = (bytes, title, css) =>
      h("span", { class: css, title, style: `flex:0 0 ${((bytes / total) * 100).toFixed(3)}%` });
    this.bar.replaceChildren(
      ...parts.map(({ name, bytes, hue }) =>
        part(bytes, `${name}: ${units(bytes)}`, `ms-part ms-hue-${hue}`),
      ),
      part(others, `other memory in use: ${units(others)}`, "ms-others"),
    );
    const named = parts
      .map(({ name, bytes }) => `${name} ${units(bytes)}`)
      .join(", ");
    setAttribute(
      this.bar,
      "aria-label",
      `Of ${units(machine.limit)} of memory, shared: ${named || "nothing"}; other memory in use: ${units(others)}; free: ${units(machine.free)}`,
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
    if (line === this.sparkShown) return;
    this.sparkShown = line;
    const first = history.length ? x(history[0][0]) : 120;
    const label = `Shared bytes in the last ${span(now - begin)}: now ${units(this.store.total)}, at most ${units(most === 1 ? 0 : most)}`;
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
