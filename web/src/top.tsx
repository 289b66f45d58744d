/** The bar at the top of every page. */
import type { ComponentChildren } from 'preact';
import { sideOpen } from './lib/prefs';
import { serverProblem } from './lib/state';
import { drawerOpen, narrow } from './lib/view';
import { IconButton } from './ui';

export function toggleSide(): void {
  if (narrow.matches) drawerOpen.value = !drawerOpen.peek();
  else sideOpen.value = !sideOpen.peek();
}

export function TopBar({ children }: { children: ComponentChildren }) {
  const problem = serverProblem.value;
  return (
    <>
      <header class="top">
        <IconButton icon="menu" label="Conversations (Alt+B)" onClick={toggleSide} />
        {children}
      </header>
      {problem && (
        <p class="banner" role="status">
          {problem.status === 0 ? problem.message : `Not ready: ${problem.message}.`} Trying again.
        </p>
      )}
    </>
  );
}
