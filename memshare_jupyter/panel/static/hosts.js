// Hosts: for each that this kernel works with, what is there and what is on its way to it.

const MOST_REPLICAS = 6; // by name; the others are counted

class Hosts {
  constructor(store) {
    this.store = store;
    this.rows = new Map();
    // Of many hosts some are in sight, and the others are reached by the keyboard, too.
    const label = { role: "group", "aria-label": "Hosts", tabindex: "0" };
    this.element = h("div", { class: "ms-hosts", ...label, hidden: true });
  }

  draw() {
    const { hosts } = this.store;
    this.element.hidden = !hosts.length;
    const keys = hosts.map(({ name, engines }) => `${name} ${engines}`);
    for (const [key, row] of this.rows) {
      if (keys.includes(key)) continue;
      row.element.remove();
      this.rows.delete(key);
    }
    for (const [i, host] of hosts.entries()) {
      if (!this.rows.has(keys[i])) this.rows.set(keys[i], this.row(host));
      const row = this.rows.get(keys[i]);
      if (this.element.children[i] !== row.element)
        this.element.insertBefore(row.element, this.element.children[i] ?? null);
      this.drawHost(row, host);
    }
  }

  row({ name, engines }) {
    const row = { transfers: new Map() };
    row.figures = h("span", { class: "ms-host-figures" });
    row.letters = h("span", { class: "ms-host-letters", hidden: true }, "by messages");
    row.replicas = h("div", { class: "ms-muted ms-host-replicas", hidden: true });
    row.list = h("div", { class: "ms-transfers" });
    const title = h("span", { class: "ms-run-title" }, name);
    const who = `${engines.length === 1 ? "engine" : "engines"} ${spans(engines)}`;
    const head = h("div", { class: "ms-run-head" }, title, row.letters, row.figures);
    const label = { role: "group", "aria-label": `Host ${name}, ${who}` };
    row.who = who;
    row.element = h("div", { class: "ms-of-host", ...label }, head, row.replicas, row.list);
    return row;
  }

  drawHost(row, host) {
    const known = host.pages !== undefined;
    const parts = known
      ? [
          `${count(host.pages, "page")}, ${units(host.size)}`,
          ...(host.replicas
            ? [`${count(host.replicas, "replica")}, ${units(host.replicas_size)}`]
            : []),
          `${units(host.free)} free`,
        ]
      : ["not heard of yet"];
    setText(row.figures, [row.who, ...parts].join(" · "));
    row.letters.hidden = !host.letters;
    setAttribute(row.letters, "title", host.letters);
    const named = (host.named ?? []).slice(0, MOST_REPLICAS);
    const more = (host.replicas ?? 0) - named.length;
    const names = named.map(([name, size]) => `${name} ${units(size)}`);
    if (more > 0) names.push(`${number.format(more)} more`);
    setText(row.replicas, names.length ? `Replicas: ${names.join(", ")}` : "");
    row.replicas.hidden = !names.length;
    this.drawTransfers(row, host);
  }

  drawTransfers(row, { name, transfers = [] }) {
    const going = new Set(transfers.map(([uuid]) => uuid));
    for (const [uuid, transfer] of row.transfers) {
      if (going.has(uuid)) continue;
      transfer.element.remove();
      row.transfers.delete(uuid);
    }
    for (const [uuid, here, size] of transfers) {
      if (!row.transfers.has(uuid)) {
        row.transfers.set(uuid, this.transfer(name, uuid, size));
        row.list.append(row.transfers.get(uuid).element);
      }
      const { text, bar, fill } = row.transfers.get(uuid);
      setText(text, `${units(here)} of ${units(size)}`);
      setAttribute(bar, "aria-valuenow", here);
      fill.style.width = `${(100 * here) / size}%`;
    }
  }

  transfer(host, uuid, size) {
    const page = this.store.pages.get(uuid);
    const name = page ? pageName(page) : "a page";
    const text = h("span", { class: "ms-muted" });
    const fill = h("span", { class: "ms-fill" });
    const about = { role: "progressbar", "aria-label": `${name} to ${host}` };
    const range = { "aria-valuemin": 0, "aria-valuemax": size };
    const bar = h("div", { class: "ms-progress", ...about, ...range }, fill);
    const element = h("div", { class: "ms-transfer" }, h("span", {}, `${name} →`), bar, text);
    return { element, text, bar, fill };
  }
}
