/** Numbers for people. */
const UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];

export function bytes(n: number): string {
  let i = 0;
  let value = n;
  while (value >= 1024 && i < UNITS.length - 1) {
    value /= 1024;
    i += 1;
  }
  return `${value >= 100 || i === 0 ? Math.round(value) : value.toFixed(1)} ${UNITS[i]}`;
}

export function count(n: number): string {
  for (const [size, letter] of [[1e12, 'T'], [1e9, 'B'], [1e6, 'M']] as const) {
    if (n >= size) return `${(n / size).toFixed(n >= 100 * size ? 0 : 1)} ${letter}`;
  }
  return whole(n);
}

/** With thin spaces between thousands, as in scientific tables. */
export const whole = (n: number): string => String(Math.round(n)).replace(/\B(?=(\d{3})+$)/g, '\u202F');

export const rate = (n: number): string => (n >= 100 ? whole(n) : n.toFixed(1));

export const percent = (p: number): string => {
  const value = p * 100;
  if (value > 99.95) return '100 %';
  if (value < 0.01) return '< 0.01 %';
  return `${value >= 10 ? value.toFixed(1) : value.toPrecision(2)} %`;
};

export function seconds(ms: number): string {
  return ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(ms < 10_000 ? 1 : 0)} s`;
}

export function duration(s: number): string {
  const parts: [number, string][] = [[86_400, 'd'], [3600, 'h'], [60, 'min'], [1, 's']];
  const i = parts.findIndex(([size]) => s >= size);
  if (i < 0) return '0 s';
  const [size, unit] = parts[i]!;
  const next = parts[i + 1];
  const rest = next ? Math.floor((s % size) / next[0]) : 0;
  return `${Math.floor(s / size)} ${unit}${next && rest ? ` ${rest} ${next[1]}` : ''}`;
}

export function when(time: number): string {
  const date = new Date(time);
  const today = new Date().toDateString() === date.toDateString();
  return today
    ? date.toLocaleTimeString([], { hour: '2-digit', minute: '2-digit' })
    : date.toLocaleDateString([], { day: 'numeric', month: 'short' });
}

export const title = (text: string): string => {
  const line = text.trim().split('\n')[0]!.replace(/\s+/g, ' ');
  return line.length > 60 ? `${line.slice(0, 58).trimEnd()}…` : line || 'New conversation';
};
