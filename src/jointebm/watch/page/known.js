// What is clamped: per block an array of numbers (null is free), or per column a value, list, interval or null.

const PAUSE = 50; // ms between messages while a picture is painted

export class Known {
  constructor(send) {
    this.send = send;
    this.given = {};
    this.listeners = [];
    this.timer = null;
  }

  onChange(listener) {
    this.listeners.push(listener);
  }

  /** Clamps a block or column; undefined frees it. */
  set(name, value, { silent = false } = {}) {
    if (value === undefined) delete this.given[name];
    else this.given[name] = value;
    if (!silent) this.changed();
  }

  /** Clamps one variable of a block of so many; null frees it. */
  setVariable(name, count, variable, value) {
    const values = this.given[name]?.slice() ?? new Array(count).fill(null);
    values[variable] = value;
    this.set(name, values.every((each) => each === null) ? undefined : values);
  }

  variable(name, variable) {
    return this.given[name]?.[variable] ?? null;
  }

  replace(given) {
    this.given = given;
    this.changed();
  }

  changed() {
    this.listeners.forEach((listener) => listener());
    this.timer ??= setTimeout(() => {
      this.timer = null;
      this.send({ do: "clamp", given: this.given });
    }, PAUSE);
  }
}
